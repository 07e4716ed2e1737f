"""The distribution of a model's training inputs, stored with the version for the drift monitor."""

from collections.abc import Collection
from enum import StrEnum
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway.packaging.texts import COUNTS, Features, Floats, common_words, described

POINTS = 200
"""Most values that a column stores.

They are enough for the distribution and too few to reveal single rows of a large table.
"""


class Kind(StrEnum):
    """CODES have no order; NUMBERS have one."""

    CODES = "codes"
    NUMBERS = "numbers"


class Distribution(BaseModel):
    """The distribution of one scalar: the number of rows of each value.

    Numbers with more than POINTS different values are merged with their neighbours under the
    largest of them, so that the cumulative distribution is exact at every stored value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        description="the input, with the position in it when it is a vector: `pixels[12]`"
    )
    kind: Kind
    missing: int = Field(ge=0, description="rows without a value")
    values: tuple[float, ...] = Field(description="increasing")
    counts: tuple[int, ...] = Field(description="rows with each value")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.values) != len(self.counts) or list(self.values) != sorted(set(self.values)):
            raise ValueError(f"{self.name}: needs increasing values and a count for each")
        return self

    @property
    def rows(self) -> int:
        """Number of rows with a value."""
        return sum(self.counts)

    @classmethod
    def of(cls, name: str, kind: Kind, column: Floats) -> Self:
        """Return the distribution of ``column`` [rows] FP32, NaN for missing values."""
        values, counts = np.unique(column[~np.isnan(column)].astype(np.float64), return_counts=True)
        if kind is Kind.NUMBERS and len(values) > POINTS:
            cumulative = np.cumsum(counts)
            # The first value at or above each of POINTS equal quantiles.
            ends = np.unique(
                np.searchsorted(cumulative, np.linspace(0, cumulative[-1], POINTS + 1)[1:])
            )
            values, counts = values[ends], np.diff(cumulative[ends], prepend=0)
        return cls(
            name=name,
            kind=kind,
            missing=int(np.isnan(column).sum()),
            values=tuple(values.tolist()),
            counts=tuple(counts.tolist()),
        )


class Reference(BaseModel):
    """The distributions of all training inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    columns: tuple[Distribution, ...]
    words: tuple[str, ...] = Field(default=(), description="of texts: the most frequent words")


def reference_of(signature: Signature, features: Features) -> Reference:
    """Return the reference of ``features`` [rows, width], the TRAINING rows alone.

    Held-out rows must not be part of a version's reference.
    """
    words = common_words(features) if is_text(signature) else ()
    seen = watched(signature, features, words)
    names = [(name, column) for column in signature.inputs for name in watched_names(column)]
    columns = (
        Distribution.of(name, Kind.CODES if column.codes else Kind.NUMBERS, seen[:, position])
        for position, (name, column) in enumerate(names)
    )
    return Reference(rows=len(features), columns=tuple(columns), words=words)


def watched(signature: Signature, features: Features, words: Collection[str]) -> Floats:
    """Return the monitored values [rows, columns of the reference] FP32.

    Numbers stay unchanged; a text has its length and its share of unknown words.
    """
    return described(features, words) if is_text(signature) else features.astype(np.float32)


def is_text(signature: Signature) -> bool:
    """Return whether the inputs are texts. Texts and numbers are not mixed in one table."""
    return signature.inputs[0].datatype is Datatype.BYTES


def watched_names(column: Column) -> list[str]:
    """Return the names of an input's monitored values: its scalars, or the counts of a text."""
    if column.datatype is not Datatype.BYTES:
        return scalar_names(column)
    return [f"{name} {count}" for name in scalar_names(column) for count in COUNTS]


def scalar_names(column: Column) -> list[str]:
    """Return the input's name; of a vector ``name[0]``…, of a matrix ``name[0,0]``…."""
    if not column.shape:
        return [column.name]
    return [f"{column.name}[{','.join(map(str, index))}]" for index in np.ndindex(*column.shape)]
