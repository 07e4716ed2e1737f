"""Batches and their files in PostgreSQL, which gateway and Jobs share."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from anyio import to_thread
from slipway_contract.tables import CHUNK_BYTES
from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import batch_files, batches, usage

Charge = Callable[[AsyncConnection], Awaitable[None]]


class BatchStore:
    """The store of batches. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def check_room(self, subject: str) -> None:
        """Check the storage budget of a caller. Raises StorageSpent, StorageFull."""
        await self._storage.check(subject)

    async def add(self, file: Path, charge: Charge | None, **values: Any) -> tuple[Row[Any], bool]:
        """Store a batch with its file; return it, and True when it is new.

        For a repeated idempotency key the existing batch is returned. ``charge`` charges a new
        batch to the quota in the same transaction. Raises StorageSpent, StorageFull, and the errors
        of ``charge``.
        """
        async with self._database.transaction() as connection:
            statement = (
                insert(batches).values(**values).on_conflict_do_nothing().returning(*batches.c)
            )
            row = (await connection.execute(statement)).first()
            if row is None:
                same = (batches.c.subject == values["subject"], batches.c.key == values["key"])
                return (await connection.execute(select(batches).where(*same))).one(), False
            if charge:
                await charge(connection)
            number = 0
            with await to_thread.run_sync(lambda: file.open("rb")) as opened:
                while piece := await to_thread.run_sync(opened.read, CHUNK_BYTES):
                    place = {"batch_id": row.batch_id, "kind": "input", "number": number}
                    await connection.execute(insert(batch_files).values(**place, content=piece))
                    number += 1
            await self._storage.settle(connection, row.subject)
            return row, True

    async def started(self, batch_id: str, job: str) -> None:
        """Store the name of the batch's Job."""
        await self._database.run(
            update(batches).where(batches.c.batch_id == batch_id).values(job=job)
        )

    async def get(self, subject: str, batch_id: str) -> Row[Any] | None:
        """Return a batch of the caller; None also for a batch of another caller."""
        own = (batches.c.batch_id == batch_id, batches.c.subject == subject)
        rows = await self._database.run(select(batches).where(*own))
        return rows[0] if rows else None

    async def list(self, subject: str, limit: int) -> Sequence[Row[Any]]:
        """Return the caller's batches, the newest first."""
        query = (
            select(batches)
            .where(batches.c.subject == subject)
            .order_by(batches.c.created.desc())
            .limit(limit)
        )
        return await self._database.run(query)

    async def result(self, batch_id: str) -> AsyncIterator[bytes]:
        """Yield the chunks of the result, each read by a transaction of its own."""
        number = 0
        while True:
            place = (
                batch_files.c.batch_id == batch_id,
                batch_files.c.kind == "result",
                batch_files.c.number == number,
            )
            rows = await self._database.run(select(batch_files.c.content).where(*place))
            if not rows:
                return
            yield bytes(rows[0][0])
            number += 1

    async def delete(self, batch_id: str) -> None:
        """Delete a batch with its files; return charged rows without a prediction to the quota."""
        async with self._database.transaction() as connection:
            where = batches.c.batch_id == batch_id
            row = (
                await connection.execute(delete(batches).where(where).returning(*batches.c))
            ).first()
            if row is not None and row.charged and row.finished is None:
                entry = (
                    usage.c.subject == row.subject,
                    usage.c.policy == row.policy,
                    usage.c.day == row.charged_day,
                )
                left = max(0, row.charged - row.rows_done)
                await connection.execute(
                    update(usage).where(*entry).values(requests=usage.c.requests - left)
                )

    async def sweep(self) -> None:
        """Delete expired batches."""
        await self._database.run(delete(batches).where(batches.c.expires < datetime.now(UTC)))
