"""A dataset: its declaration and its table."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from slipway_contract.registry import digest_of
from slipway_contract.signature import Column

Floats = NDArray[np.float32]
Texts = NDArray[np.object_]
Features = NDArray[Any]
"""[rows, width]: FP32 with NaN for missing values, or texts."""
Labels = NDArray[Any]
"""[rows]: INT64 classes, or FP64 quantities."""
Days = NDArray[np.datetime64]


@dataclass(frozen=True)
class Table:
    """Rows of inputs and labels, in an order that depends only on their content.

    ``features`` are [rows, width] FP32 with NaN for missing values, or texts; columns in the order
    of the model's signature, vectors flattened. Instead they may be a data frame. ``labels`` are
    [rows], INT64 classes or FP64 quantities. ``keys`` are [rows] bytes, equal for equal inputs
    only. ``groups`` are [rows] bytes, equal for rows of one subject. ``times`` are [rows], the day
    of each.
    """

    features: Any
    labels: Labels
    keys: NDArray[np.bytes_]
    groups: NDArray[np.bytes_]
    times: Days | None = None
    classes: tuple[Any, ...] = ()
    """The values that the classes stand for, in order; empty when these are the classes."""

    @classmethod
    def of(
        cls,
        features: Any,
        labels: Labels,
        groups: Sequence[object] | None = None,
        times: Days | None = None,
        classes: tuple[Any, ...] = (),
    ) -> Self:
        """Return a table of rows in any order.

        Without ``groups``, each row is its own subject, and rows with equal inputs are one. Rows
        are ordered by a hash of their inputs: a split and a fit have the same order for all copies,
        and the order is independent of the values.
        """
        rows, targets = _canonical(features), _exact(labels)
        keys = np.array([hashlib.sha256(row).hexdigest().encode() for row in _contents(rows)])
        named = keys if groups is None else np.array([str(group).encode() for group in groups])
        days = None if times is None else np.asarray(times, dtype="datetime64[D]")
        order = np.lexsort((targets, keys) if days is None else (targets, keys, named, days))
        return cls(rows, targets, keys, named, days, classes).take(order)

    @property
    def digest(self) -> str:
        """``sha256:…`` of every row's inputs, label, subject and day, independent of the file."""
        parts = [
            self.keys.tolist(),
            [label.tobytes() for label in self.labels.astype(self.labels.dtype.newbyteorder("<"))],
        ]
        if not np.array_equal(self.groups, self.keys):
            parts.append(self.groups.tolist())
        if self.times is not None:
            parts.append([day.encode() for day in np.datetime_as_string(self.times).tolist()])
        classes = json.dumps(self.classes, default=str).encode() if self.classes else b""
        return digest_of(b"".join(sorted(map(b"".join, zip(*parts, strict=True)))) + classes)

    @property
    def truth(self) -> NDArray[Any]:
        """The labels [rows] as the model returns them."""
        return np.asarray(self.classes)[self.labels] if self.classes else self.labels

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Self:
        times = None if self.times is None else self.times[rows]
        features = (
            self.features[rows]
            if isinstance(self.features, np.ndarray)
            else self.features.iloc[rows].reset_index(drop=True)
        )
        return type(self)(
            features, self.labels[rows], self.keys[rows], self.groups[rows], times, self.classes
        )

    def __len__(self) -> int:
        return len(self.labels)


def _canonical(features: Any) -> Any:
    if not isinstance(features, np.ndarray):
        return features
    if features.dtype.kind in "OU":
        return features.astype(object)
    rows: Floats = features.astype(np.float32) + np.float32(0)  # -0.0 becomes 0.0
    rows[np.isnan(rows)] = np.nan  # one bit pattern of NaN
    return rows


def _exact(labels: Labels) -> Labels:
    return labels.astype(np.float64 if labels.dtype.kind == "f" else np.int64)


def _contents(features: Any) -> Iterator[bytes]:
    """Yield the bytes of each row."""
    if isinstance(features, np.ndarray):
        yield from map(_bytes, features)
        return
    # Neither the order of the columns nor their types change a row.
    names = sorted(features.columns)
    features = features[names]
    missing = features.isna().to_numpy()
    for values, absent in zip(features.itertuples(index=False, name=None), missing, strict=True):
        plain = [
            None if gone else _plain(value) for value, gone in zip(values, absent, strict=True)
        ]
        yield json.dumps([names, plain]).encode()


def _plain(value: Any) -> Any:
    """Return a cell as JSON: equal numbers are equal, whatever their type is."""
    if isinstance(value, int | np.bool_):
        return int(value)
    if isinstance(value, float | np.number):
        whole = int(value) if np.isfinite(value) else None
        return whole if whole == value else float(value)
    return value if isinstance(value, str) else [type(value).__name__, str(value)]


def _bytes(row: Features) -> bytes:
    """Return the bytes of a row. Texts have their length in front, so that boundaries matter."""
    if row.dtype != object:
        return row.tobytes()
    texts = [str(text).encode() for text in row]
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


class DatasetSettings(Protocol):
    """Settings of the platform that a dataset may need."""

    @property
    def database_url(self) -> str | None:
        """PostgreSQL of the platform, as a libpq URL."""


Query = Callable[[DatasetSettings], Table]
"""Returns the current table of a database; raises Unavailable."""

Reader = Callable[[bytes, str], Table]
"""Reads the content of a file, with its name for messages; raises CorruptTable."""


@dataclass(frozen=True)
class Dataset:
    """The declaration of a dataset."""

    name: str
    title: str
    source: str
    """URL or description of its origin."""
    licence: str
    citation: str
    subject: str
    """The owner of a row or of a group of rows; no two parts of a split share one."""
    digest: str | None = None
    """Digest of the table; None when a generator or a database provides it."""
    columns: Sequence[Column] = ()
    """The schema of its inputs: names, datatypes, units.

    Without one, they are the vector ``features``.
    """
    files: Sequence[str] = ()
    """File names in a mirror folder."""
    url: str | None = None
    """Public source; None when there is none."""
    read: Reader | None = None
    make: Callable[[], Table] | None = None
    """Creates the table without a file: from a package, or by a generator."""
    query: Query | None = None
    """Reads the table from a database."""
    synthetic: bool = False

    @property
    def source_type(self) -> str:
        """MLflow's name for the kind of its source."""
        return "code" if self.url is None else "http"


class SourceKind(StrEnum):
    """Kind of the source of a table."""

    MIRROR = "mirror"
    WAREHOUSE = "warehouse"
    PUBLIC = "public source"
    PACKAGE = "package"
    GENERATOR = "generator"


@dataclass(frozen=True)
class Loaded:
    """A dataset with its verified table and the kind of its source."""

    entry: Dataset
    table: Table
    source_kind: SourceKind
