"""A program that counts the rows of an uploaded file, in a process with resource limits.

``python -m slipway_gateway.jobs.rowcount FORMAT SECONDS`` reads the file at its standard input,
which must be seekable, and prints the number of rows. It reads only the footer of a Parquet file.
In an invalid CSV file the rows before the error count; the batch Job validates the file later.
"""

import csv
import io
import os
import resource
import sys
from typing import BinaryIO

FIELD = 2**20
"""Maximum length of a CSV field, the same as in the batch Job."""
FOOTER = 4 * 2**20
"""Maximum size of a Parquet footer in bytes, enough for 200 columns and 1,000 row groups."""
MEMORY = 2 * 2**30
"""Address space in bytes; Arrow alone reserves most of it."""


def csv_rows(file: BinaryIO) -> int:
    """Count the rows after the header, without blank lines."""
    csv.field_size_limit(FIELD)
    rows = 0
    try:
        reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)
        next(reader, None)
        for fields in reader:
            rows += bool(fields)
    except (csv.Error, UnicodeDecodeError):
        return rows
    return rows


def parquet_rows(file: BinaryIO) -> int:
    """Return the number of rows in the footer; 0 for an invalid one or one above ``FOOTER``."""
    import pyarrow.parquet as pq  # CSV files do not need it
    from pyarrow import ArrowException

    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    if int.from_bytes(file.read(4), "little") > FOOTER:
        return 0
    file.seek(0)
    try:
        return int(pq.read_metadata(file).num_rows)
    except (ArrowException, OSError):
        return 0


def main() -> int:
    """Run the count and return the exit status."""
    kind, seconds = sys.argv[1], int(sys.argv[2])
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    count = parquet_rows if kind == "parquet" else csv_rows
    sys.stdout.write(f"{count(sys.stdin.buffer)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
