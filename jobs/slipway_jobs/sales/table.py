"""Sales as columns, and a reader of raw sales files: CSV, a row per store, product and day."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from slipway.errors import CorruptTable
from slipway_contract.errors import InvalidInput
from slipway_contract.v2 import Datatype
from slipway_contract.values import text_value

COLUMNS = ("date", "store", "product", "units", "promotion", "price")
"""Columns of a raw file, matched by its first line; other columns are ignored."""

ANY = "*"
"""Wildcard for any store or product among the features; it is not a valid name."""

_LONGEST = 100
_PROMOTION = {"0": False, "1": True, "false": False, "true": True}


Fact = tuple[str, str, date, float | None, bool, float | None]
"""Store, product, day, units, promotion, price."""


class Sale(NamedTuple):
    """Sold units, or a plan."""

    line: int
    """Line in the raw file, from 1."""
    day: date
    store: str
    product: str
    units: float | None
    """None: unknown; the row has the planned promotion and price."""
    promotion: bool
    price: float | None

    @property
    def fact(self) -> Fact:
        return self.store, self.product, self.day, self.units, self.promotion, self.price


class Rejected(NamedTuple):
    """An invalid row."""

    line: int
    column: str
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.problem}"


@dataclass(frozen=True)
class Sales:
    """Rows in the order of store, product and day, without duplicates.

    Each field is an array [rows].
    """

    store: NDArray[np.str_]
    product: NDArray[np.str_]
    day: NDArray[np.datetime64]
    """datetime64[D]."""
    units: NDArray[np.float64]
    """NaN: unknown."""
    promotion: NDArray[np.bool_]
    price: NDArray[np.float64]
    """NaN: unknown."""

    @classmethod
    def of(cls, rows: Iterable[Fact]) -> Self:
        """Return a table of rows in any order; of equal keys the last one counts."""
        unique = {
            (store, product, day): (units, promotion, price)
            for store, product, day, units, promotion, price in rows
        }
        keys = sorted(unique)
        values = [unique[key] for key in keys]
        return cls(
            np.array([key[0] for key in keys], dtype=str),
            np.array([key[1] for key in keys], dtype=str),
            np.array([key[2] for key in keys], dtype="datetime64[D]"),
            np.array([value[0] for value in values], dtype=np.float64),  # None becomes NaN
            np.array([value[1] for value in values], dtype=bool),
            np.array([value[2] for value in values], dtype=np.float64),
        )

    def take(self, rows: NDArray[np.bool_]) -> Self:
        return type(self)(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def with_units(self, units: NDArray[np.float64]) -> Self:
        """Return the same rows with other quantities."""
        return type(self)(self.store, self.product, self.day, units, self.promotion, self.price)

    @property
    def newest(self) -> np.datetime64:
        """The last day with a known quantity. Raises CorruptTable when there is none."""
        known = self.day[~np.isnan(self.units)]
        if not len(known):
            raise CorruptTable("no row has a number of units")
        return np.datetime64(known.max(), "D")

    def __len__(self) -> int:
        return len(self.day)


def read_rows(lines: Iterable[str], name: str) -> Iterator[Sale | Rejected]:
    """Yield the rows of a CSV file; invalid rows are yielded as Rejected.

    Raises CorruptTable when the file is not CSV, or lacks one of ``COLUMNS``.
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = [cell.strip().casefold().removeprefix("\ufeff") for cell in next(reader, [])]
        if missing := [column for column in COLUMNS if column not in header]:
            problem = f"has no column {', '.join(missing)}; it has {', '.join(header) or 'none'}"
            raise CorruptTable(f"{name} line 1: {problem}"[:500])
        for cells in reader:
            if cells:
                yield _row(reader.line_num, header, cells)
    except csv.Error as error:
        raise CorruptTable(f"{name} line {reader.line_num}: is not CSV: {error}") from None
    except UnicodeDecodeError:
        raise CorruptTable(f"{name} line {reader.line_num + 1}: is not text in UTF-8") from None


def read_sales(content: bytes, name: str) -> Sales:
    """Read a file in which every row is valid.

    Raises CorruptTable with line and column of the first invalid row.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptTable(f"{name}: byte {error.start} is not text in UTF-8") from None
    rows = []
    for row in read_rows(text.splitlines(keepends=True), name):
        if isinstance(row, Rejected):
            raise CorruptTable(f"{name} {row}")
        rows.append(row.fact)
    if not rows:
        raise CorruptTable(f"{name}: has no rows")
    return Sales.of(rows)


class _Wrong(ValueError):
    """An invalid value, with its column."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(problem)
        self.column = column


def _row(line: int, header: list[str], cells: list[str]) -> Sale | Rejected:
    if len(cells) != len(header):
        last = str(min(len(cells), len(header)) + 1)
        return Rejected(
            line, last, f"the line has {len(cells)} cells; the first line has {len(header)}"
        )
    given = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    try:
        return Sale(
            line,
            _day(given["date"]),
            _name(given, "store"),
            _name(given, "product"),
            _number(given, "units"),
            _promotion(given["promotion"]),
            _number(given, "price"),
        )
    except _Wrong as error:
        return Rejected(line, error.column, str(error))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _Wrong("date", f"{text!r:.40} is not a date; write for example 2026-03-29") from None


def _name(given: Mapping[str, str], column: str) -> str:
    text = given[column]
    if not 0 < len(text) <= _LONGEST or text == ANY or not text.isprintable():
        raise _Wrong(column, f"{text!r:.40} is not a name of 1 to {_LONGEST} letters")
    return text


def _number(given: Mapping[str, str], column: str) -> float | None:
    text = given[column]
    if not text:
        return None
    try:
        value = float(text_value(column, Datatype.FP64, text))
    except InvalidInput:
        value = math.nan
    if not 0 <= value < 1e9:
        raise _Wrong(
            column, f"{text!r:.40} is not a number from 0; leave it empty when it is unknown"
        )
    return value


def _promotion(text: str) -> bool:
    if text.casefold() not in _PROMOTION:
        raise _Wrong("promotion", f"{text!r:.40} is not 0 or 1")
    return _PROMOTION[text.casefold()]
