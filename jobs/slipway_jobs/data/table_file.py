"""A reader of uploaded CSV and Parquet files, with the value forms of ``/v1`` predictions."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException, types
from slipway.errors import CorruptTable
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.values import list_value, text_value, without_nan

ROWS_AT_ONCE = 1000
MAX_FIELD = 2**20
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SEPARATORS = "separate fields by a comma, and write a point before decimals"


@dataclass(frozen=True)
class Row:
    """The values of a row by input, or its error."""

    values: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of the file."""

    rows: list[Row]
    others: pa.Table
    """The columns that are no inputs, of the same rows."""


class TableFile:
    """A CSV or Parquet file whose columns are matched by their exact names.

    Raises CorruptTable when an input has no column, or a column has an unsupported type.
    """

    def __init__(self, path: Path, format: str, signature: Signature) -> None:
        self._path = path
        self._inputs = {column.name: column for column in signature.inputs}
        self._is_parquet = format == "parquet"
        csv.field_size_limit(MAX_FIELD)
        schema = self._parquet_schema() if self._is_parquet else self._csv_schema()
        if missing := [name for name in self._inputs if name not in schema.names]:
            raise CorruptTable(_missing(missing, schema.names))
        if len(set(schema.names)) != len(schema.names):
            raise CorruptTable("two columns of the file have the same name")
        self._check_types(schema)
        self._names = schema.names
        self.others: pa.Schema = pa.schema(
            [field for field in schema if field.name not in self._inputs]
        )
        """The columns that are no inputs."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows in order, ``ROWS_AT_ONCE`` at a time; the chunks are always the same.

        Raises CorruptTable.
        """
        return self._parquet() if self._is_parquet else self._csv()

    def count(self) -> int:
        """Return the number of rows. Raises CorruptTable."""
        return sum(len(chunk.rows) for chunk in self.chunks())

    def _csv_schema(self) -> pa.Schema:
        with self._text() as file:
            first = file.readline(MAX_FIELD)
        if first.lower().startswith("sep="):
            raise CorruptTable(
                f"line 1 of the file is {first.strip()!r}, which only Excel reads; delete "
                f"it, and {SEPARATORS}"
            )
        names = _fields(first, ",")
        for mark, word in OTHER_SEPARATORS.items():
            if len(_fields(first, mark)) > len(names) and not self._inputs.keys() <= set(names):
                raise CorruptTable(f"the fields of the file are separated by {word}; {SEPARATORS}")
        names = next(self._lines(), [])
        if not names:
            raise CorruptTable(
                "the first line of the file is blank; it has the names of the columns"
            )
        return pa.schema([(name, pa.string()) for name in names])

    @contextmanager
    def _text(self) -> Iterator[Any]:
        """Open the CSV file. Raises CorruptTable for content that is not UTF-8."""
        try:
            with self._path.open(newline="", encoding="utf-8-sig") as file:
                yield file
        except UnicodeDecodeError:
            raise CorruptTable("the file is not text in UTF-8; save it as CSV in UTF-8") from None

    def _lines(self) -> Iterator[list[str]]:
        """Yield the fields of each line, the first one included; a blank line has none."""
        with self._text() as file:
            reader = csv.reader(file, strict=True)
            try:
                yield from reader
            except csv.Error as error:
                raise CorruptTable(
                    f"line {reader.line_num} of the file is not CSV: {error}"
                ) from None

    def _csv(self) -> Iterator[Chunk]:
        lines = islice(self._lines(), 1, None)
        rows = (fields for fields in lines if not self._is_blank(fields))
        positions = [number for number, name in enumerate(self._names) if name not in self._inputs]
        while some := list(islice(rows, ROWS_AT_ONCE)):
            whole = [
                fields if len(fields) == len(self._names) else [None] * len(self._names)
                for fields in some
            ]
            others = [
                pa.array([fields[position] for fields in whole], pa.string())
                for position in positions
            ]
            yield Chunk(
                [self._row(fields) for fields in some],
                pa.Table.from_arrays(others, schema=self.others),
            )

    def _is_blank(self, fields: list[str]) -> bool:
        """Return whether the line is empty; an empty field of the only column is a value."""
        return not fields or (len(fields) == 1 < len(self._names) and not fields[0].strip())

    def _row(self, fields: list[str]) -> Row:
        if len(fields) != len(self._names):
            return Row({}, f"has {len(fields)} fields; the first line has {len(self._names)}")
        if len(fields) > 1 and not any(fields):
            return Row({}, "is blank: all of its fields are empty; delete the line")
        given = dict(zip(self._names, fields, strict=True))
        try:
            return Row(
                {name: _of_text(column, given[name]) for name, column in self._inputs.items()}
            )
        except InvalidInput as error:
            return Row({}, str(error))

    def _parquet_schema(self) -> pa.Schema:
        try:
            schema = pq.read_schema(self._path)
        except (ArrowException, OSError) as error:
            raise CorruptTable(f"the file is not Parquet: {error}") from None
        return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])

    def _check_types(self, schema: pa.Schema) -> None:
        for name, column in self._inputs.items():
            kind = element = schema.field(name).type
            while (
                types.is_list(element)
                or types.is_large_list(element)
                or types.is_fixed_size_list(element)
            ):
                element = element.value_type
            if not any(is_kind(element) for is_kind in _READABLE):
                raise CorruptTable(
                    f"column {name} of the file is {kind}, which is not {column.datatype}; "
                    f"write {_form(column)}"
                )

    def _parquet(self) -> Iterator[Chunk]:
        for table in self._tables():
            columns = [without_nan(table.column(name).to_pylist()) for name in self._inputs]
            rows = [
                Row(dict(zip(self._inputs, values, strict=True)))
                for values in zip(*columns, strict=True)
            ]
            yield Chunk(rows, table.select(self.others.names))

    def _tables(self) -> Iterator[pa.Table]:
        """Yield tables of ``ROWS_AT_ONCE`` rows, the last one shorter."""
        held = None
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    table = _decoded(pa.Table.from_batches([batch]))
                    held = table if held is None else pa.concat_tables([held, table])
                    while held.num_rows >= ROWS_AT_ONCE:
                        yield held.slice(0, ROWS_AT_ONCE)
                        held = held.slice(ROWS_AT_ONCE)
        except (ArrowException, OSError) as error:
            raise CorruptTable(f"the file cannot be read as Parquet: {error}") from None
        if held is not None and held.num_rows:
            yield held


_READABLE = (
    types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal,
    types.is_string, types.is_large_string, types.is_binary, types.is_large_binary,
    types.is_fixed_size_binary,
)  # fmt: skip
"""Types of Parquet with an equivalent in JSON."""


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a category's values, or the type itself."""
    return kind.value_type if types.is_dictionary(kind) else kind


def _decoded(table: pa.Table) -> pa.Table:
    schema = pa.schema([pa.field(field.name, _plain_type(field.type)) for field in table.schema])
    return table.replace_schema_metadata().cast(schema)


def _fields(line: str, separator: str) -> list[str]:
    """Return the fields of the first line; none when it is not CSV with this separator."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _missing(missing: list[str], names: list[str]) -> str:
    """Return the error for inputs without a column, with names that differ only by case."""
    similar = {name.strip().casefold(): name for name in names}
    renamed = [
        f"rename {similar[key]!r} to {name!r}"
        for name in missing
        if (key := name.strip().casefold()) in similar
    ]
    remedy = f"; {', '.join(renamed)[:500]}" if renamed else ""
    return f"the file has no column {', '.join(missing)}; it has {', '.join(names)[:500]}{remedy}"


def _form(column: Column) -> str:
    kind = "texts" if column.datatype.bounds is None else "numbers"
    return f"lists of {kind}" if column.shape else kind


def _of_text(column: Column, text: str) -> Any:
    """Return the value of a field. Raises InvalidInput."""
    if column.shape:
        return list_value(column.name, column.datatype, text)
    return text_value(column.name, column.datatype, text, missing=column.missing)
