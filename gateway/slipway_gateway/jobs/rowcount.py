"""A program that counts the rows of an uploaded file, in a process with bounds of its own.

``python -m slipway_gateway.jobs.rowcount FORMAT SECONDS`` reads the file at its standard input,
which can be sought, and writes the number of rows. Of a Parquet file only the footer is read. A
file that cannot be read to its end has the rows before the error; the batch Job validates the rest.
"""

import csv
import io
import os
import resource
import sys
from typing import BinaryIO

FIELD = 2**20
"""Characters of a CSV field: the batch Job's own limit."""
FOOTER = 4 * 2**20
"""Bytes of a Parquet footer: 200 columns and 1,000 row groups fit."""
MEMORY = 2 * 2**30
"""Bytes of address space; Arrow alone reserves most of it."""


def csv_rows(file: BinaryIO) -> int:
    """Rows after the first line, without blank lines."""
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
    """By the footer: neither pages nor columns are read. 0 when there is no footer, or one that is
    larger than ``FOOTER``.
    """
    import pyarrow.parquet as pq  # only here: CSV is counted without it
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
    """Exit status."""
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
