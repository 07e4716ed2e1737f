"""Rows of an uploaded CSV or Parquet file, as the friendly predictions take them."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.errors import CorruptTable

ROWS_AT_ONCE = 1000
MAX_FIELD = 2**20


@dataclass(frozen=True)
class Row:
    """Values by input, or what is wrong with the row."""

    values: Mapping[str, Any]
    problem: str | None = None


class TableFile:
    """Columns are found by name; those that are no inputs are left alone. Raises CorruptTable when an input has no column."""

    def __init__(self, path: Path, format: str, signature: Signature) -> None:
        self._path = path
        self._inputs = {column.name: column for column in signature.inputs}
        self._is_parquet = format == "parquet"
        csv.field_size_limit(MAX_FIELD)
        names = self._names()
        missing = [name for name in self._inputs if name not in names]
        if missing:
            raise CorruptTable(f"the file has no column {', '.join(missing)}; it has {', '.join(map(str, names))[:500]}")
        if len(set(names)) != len(names):
            raise CorruptTable("two columns of the file have the same name")

    def chunks(self) -> Iterator[list[Row]]:
        """All rows in their order, ``ROWS_AT_ONCE`` at a time: the same pieces each time it is read. Raises CorruptTable."""
        rows = self._parquet() if self._is_parquet else self._csv()
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            yield chunk

    def count(self) -> int:
        """How many rows there are. Raises CorruptTable."""
        return sum(map(len, self.chunks()))

    def _names(self) -> list[str]:
        if self._is_parquet:
            try:
                return list(pq.read_schema(self._path).names)
            except (ArrowException, OSError) as error:
                raise CorruptTable(f"the file is not Parquet: {error}") from None
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            try:
                return [name.strip() for name in next(csv.reader(file, strict=True), [])]
            except csv.Error as error:
                raise CorruptTable(f"line 1 of the file is not CSV: {error}") from None
            except UnicodeDecodeError:
                raise CorruptTable("the file is not text in UTF-8") from None

    def _csv(self) -> Iterator[Row]:
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            try:
                names = [name.strip() for name in next(reader)]
                for fields in reader:
                    if fields:
                        yield self._row(names, fields)
            except csv.Error as error:
                raise CorruptTable(f"line {reader.line_num} of the file is not CSV: {error}") from None
            except UnicodeDecodeError:
                raise CorruptTable("the file is not text in UTF-8") from None

    def _row(self, names: list[str], fields: list[str]) -> Row:
        if len(fields) != len(names):
            return Row({}, f"has {len(fields)} fields; the first line has {len(names)}")
        given = dict(zip(names, fields, strict=True))
        values = {}
        for name, column in self._inputs.items():
            try:
                values[name] = _value(column, given[name].strip())
            except ValueError:
                return Row({}, f"{name}: {given[name]!r:.100} is not {_kind(column)}")
        return Row(values)

    def _parquet(self) -> Iterator[Row]:
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(self._inputs)):
                    for values in batch.to_pylist():
                        yield Row({name: _plain(self._inputs[name], value) for name, value in values.items()})
        except (ArrowException, OSError) as error:
            raise CorruptTable(f"the file cannot be read as Parquet: {error}") from None


def _kind(column: Column) -> str:
    return f"a JSON list of {column.datatype}" if column.shape else str(column.datatype)


def _value(column: Column, text: str) -> Any:
    """A CSV field as JSON would have it. Raises ValueError."""
    if column.shape:
        return json.loads(text)
    if column.datatype is Datatype.BYTES:
        return text
    if text == "":
        return None
    if column.datatype is Datatype.BOOL:
        return _boolean(text.lower())
    return float(text) if column.datatype.is_float else int(text)


def _boolean(text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text in ("true", "1")


def _plain(column: Column, value: Any) -> Any:
    """Whole numbers that Parquet keeps as floating-point ones, because one of the column is missing, are whole again."""
    if isinstance(value, float) and not column.datatype.is_float and value.is_integer():
        return int(value)
    return None if isinstance(value, float) and value != value else value
