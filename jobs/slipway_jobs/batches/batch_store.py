"""Adapter of batches in the gateway's PostgreSQL tables: uploaded file, parts and result."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import psycopg
from psycopg.rows import class_row
from slipway.errors import CorruptTable, WrongParameter
from slipway_contract.tables import CHUNK_BYTES, Batch

from slipway_jobs.errors import BatchError
from slipway_jobs.postgresql import connect

REFUND = """
UPDATE usage SET requests = requests - %s FROM batches
WHERE batch_id = %s AND usage.subject = batches.subject AND usage.policy = batches.policy
  AND usage.day = batches.charged_day
"""


class BatchStore:
    """The files and the progress of one batch.

    A part is written once, whatever process computes it.
    """

    def __init__(self, url: str, batch_id: str) -> None:
        self._url = url
        self._id = batch_id

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        try:
            with connect(self._url) as connection:
                yield connection
        except psycopg.Error as error:
            raise BatchError(
                f"the batch cannot be read or written: {error}; check SLIPWAY_DATABASE_URL"
            ) from error

    def batch(self) -> Batch:
        """Return the batch. Raises WrongParameter when it does not exist."""
        with (
            self._connection() as connection,
            connection.cursor(row_factory=class_row(Batch)) as cursor,
        ):
            found = cursor.execute(
                "SELECT * FROM batches WHERE batch_id = %s", [self._id]
            ).fetchone()
        if found is None:
            raise WrongParameter(f"batch: {self._id} does not exist")
        return found

    def input(self, path: Path) -> None:
        """Write the uploaded file to ``path`` in pieces."""
        query = (
            "SELECT content FROM batch_files WHERE batch_id = %s AND kind = 'input' ORDER BY number"
        )
        with (
            self._connection() as connection,
            connection.cursor(name="input") as cursor,
            path.open("wb") as file,
        ):
            cursor.itersize = 4
            for row in cursor.execute(query, [self._id]):
                file.write(cast("bytes", row[0]))

    def begin(self, rows: int) -> set[int]:
        """Store the number of rows and return the numbers of the parts that are done.

        Raises CorruptTable when the file has more rows than were charged to the quota. If it has
        fewer, the rest is refunded.
        """
        with self._connection() as connection:
            self._settle(connection, rows)
            connection.execute("UPDATE batches SET rows = %s WHERE batch_id = %s", [rows, self._id])
            query = "SELECT number FROM batch_files WHERE batch_id = %s AND kind = 'part'"
            return {int(str(row[0])) for row in connection.execute(query, [self._id])}

    def add_part(self, number: int, content: bytes, rows: int, failed: int) -> None:
        """Store a part and its progress in one transaction."""
        statement = "INSERT INTO batch_files VALUES (%s, 'part', %s, %s) ON CONFLICT DO NOTHING"
        with self._connection() as connection:
            if connection.execute(statement, [self._id, number, content]).rowcount:
                progress = (
                    "UPDATE batches SET rows_done = rows_done + %s, rows_failed = rows_failed + "
                    "%s WHERE batch_id = %s"
                )
                connection.execute(progress, [rows, failed, self._id])

    def part(self, number: int) -> bytes:
        with self._connection() as connection:
            query = (
                "SELECT content FROM batch_files WHERE batch_id = %s AND kind = 'part' AND "
                "number = %s"
            )
            row = connection.execute(query, [self._id, number]).fetchone()
        if row is None:
            raise BatchError(
                f"part {number} of batch {self._id} does not exist: the batch was deleted"
            )
        return cast("bytes", row[0])

    def finish(self, result: Path) -> None:
        """Store the result and delete input and parts, in one transaction."""
        with self._connection() as connection, result.open("rb") as file:
            # A second process waits here and finds the batch finished.
            row = connection.execute(
                "SELECT finished FROM batches WHERE batch_id = %s FOR UPDATE", [self._id]
            ).fetchone()
            if row is None or row[0] is not None:
                return
            number = 0
            while piece := file.read(CHUNK_BYTES):
                connection.execute(
                    "INSERT INTO batch_files VALUES (%s, 'result', %s, %s)",
                    [self._id, number, piece],
                )
                number += 1
            connection.execute(
                "DELETE FROM batch_files WHERE batch_id = %s AND kind <> 'result'", [self._id]
            )
            connection.execute(
                "UPDATE batches SET finished = now(), problem = NULL WHERE batch_id = %s",
                [self._id],
            )

    def _settle(self, connection: "psycopg.Connection[tuple[object, ...]]", rows: int) -> None:
        """Charge the actual rows to the quota, if the batch's policy has one."""
        lock = "SELECT charged FROM batches WHERE batch_id = %s AND charged IS NOT NULL FOR UPDATE"
        row = connection.execute(lock, [self._id]).fetchone()
        if row is None:
            return
        charged = cast("int", row[0])
        if rows > charged:
            raise CorruptTable(
                f"the file has {rows} rows, but the gateway counted {charged}; quote fields "
                "as RFC 4180 requires"
            )
        connection.execute(REFUND, [charged - rows, self._id])
        connection.execute("UPDATE batches SET charged = %s WHERE batch_id = %s", [rows, self._id])

    def refuse(self, problem: str) -> None:
        """Store why the batch is invalid, delete its files, and refund its rows."""
        with self._connection() as connection:
            self._settle(connection, 0)
            connection.execute("DELETE FROM batch_files WHERE batch_id = %s", [self._id])
            statement = "UPDATE batches SET finished = now(), problem = %s WHERE batch_id = %s"
            connection.execute(statement, [_text(problem), self._id])

    def add_problem(self, problem: str) -> None:
        """Store why this attempt failed, unless the batch is finished."""
        # A second error is suppressed, because the caller raises the first.
        with suppress(BatchError), self._connection() as connection:
            statement = "UPDATE batches SET problem = %s WHERE batch_id = %s AND finished IS NULL"
            connection.execute(statement, [_text(problem), self._id])


def _text(problem: str) -> str:
    """Return at most 2,000 characters, without NUL, which PostgreSQL's text type rejects."""
    return problem.replace("\0", "\ufffd")[:2000]
