"""A program that exports a model's labelled predictions as Parquet; the only user of pyarrow.

``python -m slipway_gateway.eventlog.export MODEL SINCE UNTIL`` reads PostgreSQL at
``SLIPWAY_DATABASE_URL`` with a server-side cursor and writes row groups to its standard output, so
that neither this process nor the gateway holds the whole export in memory.
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
"""Rows per group; each may have a request and a response of the log's maximum length."""
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
"""Predictions with their latest label, without the subjects."""


def main() -> int:
    """Run the export and return the exit status."""
    model, since, until = sys.argv[1:]
    url = os.environ["SLIPWAY_DATABASE_URL"]
    parameters: dict[str, Any] = connection_parameters(
        url, statement_seconds=EXPORT_STATEMENT_SECONDS
    )
    with psycopg.connect(url, **parameters) as connection, connection.cursor("export") as cursor:
        cursor.execute(QUERY, (model, since, until))
        rows = cursor.fetchmany(ROWS)  # an error here precedes the first byte of output
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
