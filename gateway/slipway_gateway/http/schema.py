"""The base of the schemas under ``/v1``: camelCase JSON, described for OpenAPI."""

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel
from slipway_contract.body import CallerBody


class Schema(BaseModel):
    """A model with camelCase names in JSON."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )


class RequestSchema(Schema, CallerBody):
    """The body of a request."""


class Problem(Schema):
    """An error response as problem details (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[dict[str, str]] | None = None


def _is_text(given: object) -> object:
    """Reject numbers, which pydantic parses as seconds since 1970 and RFC 3339 does not."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("is not a date and time such as 2026-01-31T12:00:00Z")
    return given


Time = Annotated[AwareDatetime, BeforeValidator(_is_text)]
