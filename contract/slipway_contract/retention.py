"""Retention of a model's predictions in the event log: ``30d`` for bodies, ``400d`` for facts."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from slipway_contract.resource import Resource

MIN_FACT_DAYS = 30
"""Minimum of the facts. A gateway may deliver an event again that is in the log already. Only the
row prevents a second one, so it must outlive the spools.
"""
_BODIES = r"[1-9][0-9]{0,3}d"
_FACTS = r"([3-9][0-9]|[1-9][0-9]{2,3})d"


def _checked(text: str, pattern: str, least: int) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(
            f"{text!r:.40} is not a number of days from {least}d to 9999d; write it as 400d"
        )
    return text


def _body_days(text: str) -> str:
    return _checked(text, _BODIES, 1)


def _fact_days(text: str) -> str:
    return _checked(text, _FACTS, MIN_FACT_DAYS)


BodyDays = Annotated[
    str, AfterValidator(_body_days), WithJsonSchema({"type": "string", "pattern": f"^{_BODIES}$"})
]
FactDays = Annotated[
    str, AfterValidator(_fact_days), WithJsonSchema({"type": "string", "pattern": f"^{_FACTS}$"})
]


class Retention(Resource):
    """Days after which predictions of the model are deleted from the event log."""

    bodies: BodyDays | None = Field(
        default=None,
        description=(
            "days for which requests, responses and images are stored, 1d to 9999d; none: those of "
            "the installation"
        ),
    )
    facts: FactDays | None = Field(
        default=None,
        description=(
            "days for which all else of a prediction is stored, with its feedback, 30d to 9999d; "
            "not below bodies; none: those of the installation"
        ),
    )

    @property
    def body_days(self) -> int | None:
        return int(self.bodies[:-1]) if self.bodies else None

    @property
    def fact_days(self) -> int | None:
        return int(self.facts[:-1]) if self.facts else None

    @model_validator(mode="after")
    def _facts_outlive_bodies(self) -> Self:
        if self.body_days and self.fact_days and self.fact_days < self.body_days:
            raise ValueError(
                f"facts {self.facts} is below bodies {self.bodies}; a body is not stored without "
                "its facts: raise facts or lower bodies"
            )
        return self
