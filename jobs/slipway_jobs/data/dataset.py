"""A dataset: its entry in the catalogue, and the table that it is."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from slipway_contract.registry import digest_of
from slipway_contract.signature import Column

from slipway_jobs.settings import Settings

Floats = NDArray[np.float32]
Texts = NDArray[np.object_]
Features = NDArray[Any]
"""[rows, width]: FP32 with NaN for missing, or texts."""
Labels = NDArray[Any]
"""[rows]: INT64 classes, or FP64 quantities."""
Days = NDArray[np.datetime64]


@dataclass(frozen=True)
class Table:
    """Rows of inputs and their labels, in an order that depends on nothing but the content of the
    rows.

    ``features``: [rows, width] FP32, NaN = missing, or texts; columns in the order of the model's
    signature, vectors spread out. ``labels``: [rows], INT64 classes or FP64 quantities. ``keys``:
    [rows] bytes, equal where and only where inputs are equal. ``groups``: [rows] bytes, equal where
    rows are of one subject. ``times``: [rows], the day of each.
    """

    features: Features
    labels: Labels
    keys: NDArray[np.bytes_]
    groups: NDArray[np.bytes_]
    times: Days | None = None

    @classmethod
    def of(
        cls,
        features: Features,
        labels: Labels,
        groups: Sequence[object] | None = None,
        times: Days | None = None,
    ) -> Self:
        """Take rows in any order; without ``groups`` each row is a subject of its own, and rows
        with equal inputs are one.

        They are ordered by a hash of their inputs: whichever copy they come from, a split and a fit
        see the same order, and it says nothing about the values.
        """
        rows, targets = _canonical(features), _exact(labels)
        keys = np.array([hashlib.sha256(_bytes(row)).hexdigest().encode() for row in rows])
        named = keys if groups is None else np.array([str(group).encode() for group in groups])
        days = None if times is None else np.asarray(times, dtype="datetime64[D]")
        order = np.lexsort((targets, keys) if days is None else (targets, keys, named, days))
        return cls(
            rows[order],
            targets[order],
            keys[order],
            named[order],
            None if days is None else days[order],
        )

    @property
    def digest(self) -> str:
        """``sha256:…`` of the content: every row's inputs, label, subject and day, whatever file
        they came in.
        """
        parts = [
            self.keys.tolist(),
            [label.tobytes() for label in self.labels.astype(self.labels.dtype.newbyteorder("<"))],
        ]
        if not np.array_equal(self.groups, self.keys):
            parts.append(self.groups.tolist())
        if self.times is not None:
            parts.append([day.encode() for day in np.datetime_as_string(self.times).tolist()])
        return digest_of(b"".join(sorted(map(b"".join, zip(*parts, strict=True)))))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        times = None if self.times is None else self.times[rows]
        return type(self)(
            self.features[rows], self.labels[rows], self.keys[rows], self.groups[rows], times
        )

    def __len__(self) -> int:
        return len(self.labels)


def _canonical(features: Features) -> Features:
    if features.dtype.kind in "OU":
        return features.astype(object)
    rows: Floats = features.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
    rows[np.isnan(rows)] = np.nan  # one NaN of the many
    return rows


def _exact(labels: Labels) -> Labels:
    return labels.astype(np.float64 if labels.dtype.kind == "f" else np.int64)


def _bytes(row: Features) -> bytes:
    """Of texts each with its length before it, so that two that are cut elsewhere are not the
    same.
    """
    if row.dtype != object:
        return row.tobytes()
    texts = [str(text).encode() for text in row]
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


Query = Callable[[Settings], Table]
"""The table as a database has it now; raises Unavailable."""

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
    """What a row is, or a group of rows is of; no two parts of a split share one."""
    digest: str | None = None
    """Digest of the table. None: made here by a seeded generator, so there is nothing to compare
    with.
    """
    columns: Sequence[Column] = ()
    """The schema of its inputs: names, datatypes, units; of a table without one they are the vector
    ``features``.
    """
    files: Sequence[str] = ()
    """Its names in a mirror folder."""
    url: str | None = None
    """Public source; None when there is none to fetch from."""
    read: Reader | None = None
    make: Callable[[], Table] | None = None
    """How to get it without any file: carried by a package, or generated."""
    query: Query | None = None
    """How to get it from a database."""
    synthetic: bool = False


class SourceKind(StrEnum):
    """Where a table was had from."""

    MIRROR = "mirror"
    WAREHOUSE = "warehouse"
    PUBLIC = "public source"
    PACKAGE = "package"
    GENERATOR = "generator"


@dataclass(frozen=True)
class Loaded:
    """A dataset with its table, checked, and the kind of place that it was in."""

    entry: Dataset
    table: Table
    place: SourceKind
