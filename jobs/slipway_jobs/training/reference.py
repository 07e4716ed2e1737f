"""The distribution of a model's training inputs, kept with the version for the monitor to compare
with.
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.data.dataset import Features, Floats
from slipway_jobs.training.texts import COUNTS, common_words, described

POINTS = 200
"""Most values that a column keeps: enough for the distribution, too few to tell single rows of a
large table.
"""


class Kind(StrEnum):
    """CODES have no order; NUMBERS have."""

    CODES = "codes"
    NUMBERS = "numbers"


class Distribution(BaseModel):
    """Of one scalar: how often each value was seen.

    Of numbers with more than POINTS different values, neighbours are counted together under the
    largest of them, so the cumulative distribution is exact at every value that is kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        description="the input, with the position in it when it is a vector: `pixels[12]`"
    )
    kind: Kind
    missing: int = Field(ge=0, description="rows without a value")
    values: tuple[float, ...] = Field(description="rising")
    counts: tuple[int, ...] = Field(description="rows with each value")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.values) != len(self.counts) or list(self.values) != sorted(set(self.values)):
            raise ValueError(f"{self.name}: needs rising values and a count for each")
        return self

    @property
    def rows(self) -> int:
        """Rows with a value."""
        return sum(self.counts)

    @classmethod
    def of(cls, name: str, kind: Kind, column: Floats) -> Self:
        """``column``: [rows], NaN = missing."""
        values, counts = np.unique(column[~np.isnan(column)].astype(np.float64), return_counts=True)
        if kind is Kind.NUMBERS and len(values) > POINTS:
            cumulative = np.cumsum(counts)
            # The first value at or above each of POINTS even shares.
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
    """All columns of the training inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    columns: tuple[Distribution, ...]
    words: tuple[str, ...] = Field(default=(), description="of texts: the commonest words")


def reference_of(signature: Signature, features: Features) -> Reference:
    """``features``: [rows, width] of the TRAINING part alone; held-out rows are no part of what the
    model knows.
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
    """[rows, columns of the reference]: numbers as they are, and of each text what can be
    counted.
    """
    return described(features, words) if is_text(signature) else features.astype(np.float32)


def is_text(signature: Signature) -> bool:
    """Texts and numbers do not stand in one table."""
    return signature.inputs[0].datatype is Datatype.BYTES


def watched_names(column: Column) -> list[str]:
    """What is watched of an input: its scalars, or of a text what is counted in it."""
    if column.datatype is not Datatype.BYTES:
        return scalar_names(column)
    return [f"{name} {count}" for name in scalar_names(column) for count in COUNTS]


def scalar_names(column: Column) -> list[str]:
    """The input's name, or of a vector ``name[0]``, ``name[1]``… ; of a matrix ``name[0,0]``…"""
    if not column.shape:
        return [column.name]
    return [f"{column.name}[{','.join(map(str, index))}]" for index in np.ndindex(*column.shape)]
