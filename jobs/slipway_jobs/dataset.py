"""A dataset: its entry in the catalogue, and the table that it is."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from slipway_contract.registry import digest_of

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Table:
    """Rows of inputs and their labels, in an order that depends on nothing but the content of the rows.

    ``features``: [rows, width] FP32, NaN = missing; columns in the order of the model's signature, vectors
    spread out. ``labels``: [rows] INT64. ``keys``: [rows] bytes, equal where and only where inputs are equal.
    """

    features: Floats
    labels: Labels
    keys: NDArray[np.bytes_]

    @classmethod
    def of(cls, features: NDArray[np.floating], labels: NDArray[np.integer]) -> Self:
        """Take rows in any order.

        They are ordered by a hash of their inputs: whichever copy they come from, a split and a fit see the same
        order, and it says nothing about the values.
        """
        canonical = features.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
        canonical[np.isnan(canonical)] = np.nan  # one NaN of the many
        keys = np.array([hashlib.sha256(row.tobytes()).hexdigest().encode() for row in canonical])
        order = np.lexsort((labels, keys))
        return cls(canonical[order], labels.astype(np.int64)[order], keys[order])

    @property
    def digest(self) -> str:
        """``sha256:…`` of the content: every row's inputs (FP32) and label, whatever file they came in."""
        rows = sorted(key + label.tobytes() for key, label in zip(self.keys.tolist(), self.labels.astype("<i8"), strict=True))
        return digest_of(b"".join(rows))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        return type(self)(self.features[rows], self.labels[rows], self.keys[rows])

    def __len__(self) -> int:
        return len(self.labels)


Reader = Callable[[bytes, str], Table]
"""Content of a file and its name, for messages; raises CorruptTable."""


@dataclass(frozen=True)
class Dataset:
    """An entry of the catalogue."""

    name: str
    title: str
    source: str
    """Where it comes from: a URL, or in words."""
    licence: str
    citation: str
    subject: str
    """What one row is; no two parts of a split share one."""
    digest: str | None = None
    """Digest of the table. None: made here by a seeded generator, so there is nothing to compare with."""
    files: Sequence[str] = ()
    """Its names in a mirror folder."""
    url: str | None = None
    """Public source; None when there is none to fetch from."""
    read: Reader | None = None
    make: Callable[[], Table] | None = None
    """How to get it without any file: carried by a package, or generated."""
    synthetic: bool = False
