"""A program that converts a batch's result to CSV, in a process of its own.

``python -m slipway_gateway.jobs.batchcsv BATCH`` reads the Parquet file in chunks from PostgreSQL
at ``SLIPWAY_DATABASE_URL`` and writes to its standard output. A list is written as JSON, which
batches accept as input; a missing value is empty.
"""

import io
import json
import os
import sys
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from slipway_contract.postgresql import connection_parameters

from slipway_gateway.postgresql.connection import EXPORT_STATEMENT_SECONDS

BUFFER = 2**20
ROWS = 1000
"""Rows per group, the same as in the batch Job."""
_SIZES = """
SELECT coalesce(sum(length(content)), 0), coalesce(max(length(content)), 1) FROM batch_files
WHERE batch_id = %s AND kind = 'result'
"""
_PIECE = "SELECT content FROM batch_files WHERE batch_id = %s AND kind = 'result' AND number = %s"


class ResultFile(io.RawIOBase):
    """The stored result as a seekable file. All chunks except the last have the same size."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]", batch_id: str) -> None:
        self._connection = connection
        self._id = batch_id
        self._size, self._piece = connection.execute(_SIZES, [batch_id]).fetchone() or (0, 1)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, origin: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[origin]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from one chunk. Raises OSError when the result was deleted in the meantime."""
        number, start = divmod(self._at, self._piece)
        if self._at >= self._size:
            return 0
        row = self._connection.execute(_PIECE, [self._id, number]).fetchone()
        if row is None:
            raise OSError(f"chunk {number} of batch {self._id} does not exist any more")
        content = row[0][start : start + len(buffer)]
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def main() -> int:
    """Run the conversion and return the exit status."""
    url = os.environ["SLIPWAY_DATABASE_URL"]
    parameters: dict[str, Any] = connection_parameters(
        url, statement_seconds=EXPORT_STATEMENT_SECONDS
    )
    with (
        psycopg.connect(url, autocommit=True, **parameters) as connection,
        pq.ParquetFile(io.BufferedReader(ResultFile(connection, sys.argv[1]), BUFFER)) as file,
    ):
        schema = pa.schema([(field.name, _type(field.type)) for field in file.schema_arrow])
        with csv.CSVWriter(pa.PythonFile(sys.stdout.buffer, "w"), schema) as writer:
            for batch in file.iter_batches(ROWS):
                columns = [_column(column) for column in batch.columns]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    sys.stdout.buffer.flush()
    return 0


_PLAIN = (
    pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating,
    pa.types.is_decimal, pa.types.is_string,
    pa.types.is_large_string, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp,
)  # fmt: skip
"""Types with a CSV form; values of all other types are written as JSON."""


def _type(kind: pa.DataType) -> pa.DataType:
    return kind if any(is_kind(kind) for is_kind in _PLAIN) else pa.string()


def _column(column: pa.Array) -> pa.Array:
    if _type(column.type) == column.type:
        return column
    return pa.array(
        [
            None if value is None else json.dumps(value, default=_text)
            for value in column.to_pylist()
        ],
        pa.string(),
    )


def _text(value: object) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main())
