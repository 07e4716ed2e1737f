"""Declared feature sets: the keys that a caller sends, and the values that replace inputs.

A Job publishes a feature set with its rows; the gateway reads it by the lookup of a model
signature. Rows are in tables of the gateway (``feature_sets``, ``feature_rows``, ``feature_keys``).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import product
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from slipway_contract.errors import InvalidInput
from slipway_contract.v2 import Datatype

ANY = "*"
"""Wildcard of a key; a row with it has the values of keys that have no row."""
LONGEST = 200
"""Maximum number of characters of a key."""
MOST_KEYS = 5
"""Maximum number of keys: a lookup of k keys without a day reads up to 2^k rows."""

ModelGlob = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[a-z0-9*?-]+$")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f*/]+$")]


class KeyType(StrEnum):
    """The type of a key's values."""

    TEXT = "text"
    INTEGER = "integer"
    DATE = "date"


class FeatureKey(BaseModel):
    """A key that a caller sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    type: KeyType = KeyType.TEXT
    default: Literal["tomorrow"] | None = Field(
        default=None, description="day that is used when a caller sends none"
    )

    @model_validator(mode="after")
    def _is_a_day(self) -> Self:
        if self.default and self.type is not KeyType.DATE:
            raise ValueError(f"{self.name}: only a key of type date has the default tomorrow")
        return self

    def text(self, value: Any) -> str:
        """Return a value as it is stored. Raises InvalidInput.

        A whole number and its decimal digits are the same text.
        """
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if self.type is KeyType.INTEGER:
            if not is_number or abs(value) >= 2**63:
                raise InvalidInput(self.name, "must be a whole number: the key to look up")
            return str(value)
        if self.type is KeyType.DATE:
            return _day(self.name, value).isoformat()
        if is_number and abs(value) < 2**63:
            return str(value)
        if (
            not isinstance(value, str)
            or not 0 < len(value) <= LONGEST
            or value == ANY
            or "\0" in value
        ):
            raise InvalidInput(
                self.name, f"must be a text of 1 to {LONGEST} letters: the key to look up"
            )
        return value


class FeatureColumn(BaseModel):
    """A value of each row; the input that it replaces has its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    datatype: Datatype = Datatype.FP32
    description: str = Field(default="", max_length=1000)
    unit: str | None = Field(default=None, max_length=100, description="UCUM code of the unit")

    def value(self, value: Any) -> bool | int | float | str | None:
        """Return a value as it is stored; None and NaN are missing. Raises InvalidInput."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        kind, bounds = _kind(self.datatype), self.datatype.bounds
        fits = type(value) is kind or (kind is float and type(value) is int)
        if fits and bounds:
            fits = bounds[0] <= value <= bounds[1]
        if not fits or (kind is str and "\0" in value):
            raise InvalidInput(self.name, f"{value!r:.40} is no value of {self.datatype}")
        return kind(value)

    def serves(self, datatype: Datatype) -> bool:
        """Return True when an input of ``datatype`` can have the values."""
        return _kind(datatype) is _kind(self.datatype)


def _only_a_date(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError("is a number; write a day, as 2026-03-29 is")  # noqa: TRY004 - pydantic reports ValueError
    return value


class FeatureSet(BaseModel):
    """The declaration of a feature set.

    The keys are in the order of their importance, the least important first: of the rows with a
    wildcard that match, the one is used whose last keys are exact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = Field(description="name, and the version of its meaning, as `sales-1`")
    description: str = Field(default="", max_length=1000)
    owner: str = Field(
        min_length=1, max_length=200, description="person, team or package that publishes it"
    )
    keys: tuple[FeatureKey, ...] = Field(min_length=1, max_length=MOST_KEYS)
    columns: tuple[FeatureColumn, ...] = Field(min_length=1, max_length=1000)
    newest: Annotated[date, BeforeValidator(_only_a_date)] = Field(
        description="day of the newest fact in the values"
    )
    max_age_seconds: int | None = Field(
        default=None, ge=1, description="age from which the values are too old"
    )
    time_zone: str = Field(
        default="UTC", max_length=100, description="IANA time zone of its days, such as tomorrow"
    )
    synthetic: bool = Field(default=False, description="true: the facts are generated")
    models: tuple[ModelGlob, ...] = Field(
        default=("*",),
        min_length=1,
        max_length=100,
        description="Models that may look it up: names, or globs with * and ?",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        names = [key.name for key in self.keys] + [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"names are not unique: {', '.join(names)}")
        if sum(key.type is KeyType.DATE for key in self.keys) > 1:
            raise ValueError("a feature set has at most one key of type date")
        try:
            ZoneInfo(self.time_zone)
        except (LookupError, ValueError, OSError):
            raise ValueError(
                f"{self.time_zone!r} is not a time zone; write for example Europe/Berlin"
            ) from None
        return self

    @property
    def day(self) -> FeatureKey | None:
        """The key of type date."""
        return next((key for key in self.keys if key.type is KeyType.DATE), None)

    def admits(self, model: str) -> bool:
        """Return True if the Model may look the feature set up."""
        return any(fnmatchcase(model, each) for each in self.models)

    def key(self, given: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
        """Return the key of a caller's row at ``now``. Raises InvalidInput."""
        tomorrow = now.astimezone(ZoneInfo(self.time_zone)).date() + timedelta(days=1)
        return tuple(
            tomorrow.isoformat()
            if key.default and given.get(key.name) is None
            else key.text(given.get(key.name))
            for key in self.keys
        )

    def stored_key(self, values: Sequence[Any]) -> tuple[str, ...]:
        """Return the key of a row to store; a text or integer may be ``*``. Raises InvalidInput."""
        if len(values) != len(self.keys):
            names = ", ".join(key.name for key in self.keys)
            raise InvalidInput("key", f"has {len(values)} values; the keys are {names}")
        return tuple(
            ANY if value == ANY and key.type is not KeyType.DATE else key.text(value)
            for key, value in zip(self.keys, values, strict=True)
        )

    def candidates(self, key: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Yield a key and its generalizations, the most specific first; a day has none."""
        parts = [
            (value,) if each.type is KeyType.DATE else (value, ANY)
            for each, value in zip(self.keys, key, strict=True)
        ]
        for candidate in product(*reversed(parts)):
            yield candidate[::-1]

    def age(self, now: datetime) -> float:
        """Return the seconds since the end of the newest day in UTC."""
        end = datetime.combine(self.newest + timedelta(days=1), time(), UTC)
        return max(0.0, (now - end).total_seconds())


def _day(name: str, value: Any) -> date:
    try:
        return value if type(value) is date else date.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidInput(name, "must be a day, as 2026-03-29 is") from None


def _kind(datatype: Datatype) -> type[bool] | type[int] | type[float] | type[str]:
    """Return the Python type of the values of a datatype."""
    if datatype is Datatype.BYTES:
        return str
    if datatype is Datatype.BOOL:
        return bool
    return int if datatype.is_integer else float
