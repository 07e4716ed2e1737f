"""The door to pyarrow: a program that writes a model's labelled predictions as Parquet, in a
process of its own.

``python -m slipway_gateway.eventlog.export MODEL SINCE UNTIL`` reads PostgreSQL at
``SLIPWAY_DATABASE_URL`` with a cursor there, and writes to its standard output in groups of rows:
neither it nor who passes it on holds the whole.
"""

import os
import sys
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from slipway_contract.postgresql import connection_parameters

from slipway_gateway.postgresql.connection import EXPORT_STATEMENT_SECONDS

ROWS = 200
"""Of a group; each may have a request and a response as long as the log keeps."""
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", TIME),
        ("model", pa.string()),
        ("version", pa.string()),
        ("digest", pa.string()),
        ("request", pa.string()),
        ("response", pa.string()),
        ("label", pa.string()),
        ("comment", pa.string()),
        ("labelled", TIME),
        ("rows", pa.int64()),
        ("correct", pa.int64()),
    ]
)
QUERY = """
SELECT p.request_id, p.time, p.model, p.version, p.digest, p.request, p.response,
  f.label::text, f.comment, f.time, f.rows, f.correct
FROM prediction_events p
JOIN LATERAL (
  SELECT * FROM feedback WHERE feedback.request_id = p.request_id AND label <> 'null'
    ORDER BY time DESC LIMIT 1
) f ON true
WHERE p.model = %s AND p.time >= %s AND p.time < %s
ORDER BY p.time, p.request_id
"""
"""The latest label of each prediction; whose it was is not told."""


def main() -> int:
    """Exit status."""
    model, since, until = sys.argv[1:]
    url = os.environ["SLIPWAY_DATABASE_URL"]
    parameters: dict[str, Any] = connection_parameters(
        url, statement_seconds=EXPORT_STATEMENT_SECONDS
    )
    with psycopg.connect(url, **parameters) as connection, connection.cursor("export") as cursor:
        cursor.execute(QUERY, (model, since, until))
        rows = cursor.fetchmany(
            ROWS
        )  # before the first byte of the file, so that an error can be told
        writer = pq.ParquetWriter(pa.PythonFile(sys.stdout.buffer, "w"), SCHEMA, compression="zstd")
        while rows:
            writer.write_table(_table(rows))
            rows = cursor.fetchmany(ROWS)
        writer.close()
    sys.stdout.buffer.flush()
    return 0


def _table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [
        pa.array(values, field.type)
        for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


if __name__ == "__main__":
    sys.exit(main())
