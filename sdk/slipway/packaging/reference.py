"""The distribution of a model's training inputs, stored with the version for the drift monitor."""

from collections.abc import Collection
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway.packaging.rows import Arrays
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
    return reference_of_rows(signature, _by_input(signature, features))


def reference_of_rows(signature: Signature, rows: Arrays) -> Reference:
    """Return the reference of training rows [rows, *shape] by input."""
    texts = [rows[column.name] for column in signature.inputs if _is_free_text(column)]
    words = common_words(np.concatenate([each.ravel() for each in texts])) if texts else ()
    seen = watched(signature, rows, words)
    names = [(name, column) for column in signature.inputs for name in watched_names(column)]
    columns = (
        Distribution.of(name, _kind(column), seen[:, position])
        for position, (name, column) in enumerate(names)
    )
    return Reference(rows=len(seen), columns=tuple(columns), words=words)


def watched(signature: Signature, rows: Arrays, words: Collection[str]) -> Floats:
    """Return the monitored values [rows, columns of the reference] FP32 of rows by input.

    Numbers stay unchanged, a category is its position, and a text has its length and its share of
    unknown words. NaN is a missing value.
    """
    count = len(next(iter(rows.values())))
    parts = [_watched(column, rows[column.name], words) for column in signature.inputs]
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1)


def _watched(column: Column, values: NDArray[Any], words: Collection[str]) -> Floats:
    if column.categories:
        codes = {text: code for code, text in enumerate(column.categories)}
        return np.array([codes.get(text, np.nan) for text in values.ravel()], dtype=np.float32)
    if column.datatype is not Datatype.BYTES:
        return values.astype(np.float32)
    counts = described(values.reshape(len(values), -1), words)
    if column.missing:
        absent = values.reshape(len(values), -1) == ""
        counts[np.repeat(absent, len(COUNTS), axis=1)] = np.nan
    return counts


def _by_input(signature: Signature, features: Features) -> Arrays:
    ends = np.cumsum([element_count(column.shape) for column in signature.inputs])
    parts = np.split(features, ends[:-1], axis=1)
    return {column.name: part for column, part in zip(signature.inputs, parts, strict=True)}


def _is_free_text(column: Column) -> bool:
    return column.datatype is Datatype.BYTES and not column.categories


def _kind(column: Column) -> Kind:
    coded = column.codes or column.categories or column.datatype is Datatype.BOOL
    return Kind.CODES if coded else Kind.NUMBERS


def watched_names(column: Column) -> list[str]:
    """Return the names of an input's monitored values: its scalars, or the counts of a text."""
    if not _is_free_text(column):
        return scalar_names(column)
    return [f"{name} {count}" for name in scalar_names(column) for count in COUNTS]


def scalar_names(column: Column) -> list[str]:
    """Return the input's name; of a vector ``name[0]``…, of a matrix ``name[0,0]``…."""
    if not column.shape:
        return [column.name]
    return [f"{column.name}[{','.join(map(str, index))}]" for index in np.ndindex(*column.shape)]
