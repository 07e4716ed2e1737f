"""Bytes that callers store in PostgreSQL, and the budget of them: images, tasks, batches and
feedback.

Triggers of those tables count the bytes (migration 0011), so a check reads one sum. Deleting and
reading are never refused.
"""

import asyncio
import time
from contextlib import suppress

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import StorageFull, StorageSpent
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import storage

TOTAL_SECONDS = 2.0
"""For so long the sum over all callers holds. What is stored meanwhile is bounded by what gateways
take at once.
"""
MEASURE_SECONDS = 60.0

BYTES = select(func.coalesce(func.sum(storage.c.bytes), 0))
"""Of all callers, unless a condition names one."""


class Storage:
    """Calls raise DatabaseUnavailable while the database is."""

    def __init__(self, database: Database, *, per_caller: int, limit: int) -> None:
        self._database = database
        self._per_caller = per_caller
        self._limit = limit
        self._total, self._read = 0, float("-inf")
        self.bytes = 0
        """Of all callers, as of the last minute; for the metrics."""

    async def check(self, subject: str, more: int = 0, *, seconds: float | None = None) -> None:
        """Whether there is room for so many bytes, by an answer within ``seconds``. Raises
        StorageSpent, StorageFull.
        """
        async with self._database.transaction(seconds=seconds) as connection:
            await self.settle(connection, subject, more)

    async def settle(self, connection: AsyncConnection, subject: str, more: int = 0) -> None:
        """Whether there is room for what the caller's transaction has written, and for ``more``.

        The transaction holds the caller's counter, so the caller's sum is exact. Raises
        StorageSpent, StorageFull.
        """
        now = time.monotonic()
        if now - self._read > TOTAL_SECONDS:
            self._total, self._read = int(await connection.scalar(BYTES) or 0), now
        if self._total + more > self._limit:
            raise StorageFull(self._limit)
        used = int(await connection.scalar(BYTES.where(storage.c.subject == subject)) or 0)
        if used + more > self._per_caller:
            raise StorageSpent(used, more, self._per_caller)

    async def keep(self) -> None:
        """Measure, and forget callers who store nothing, for ever."""
        while True:
            with suppress(DatabaseUnavailable):  # the next minute will do
                await self._database.run(delete(storage).where(storage.c.bytes == 0))
                rows = await self._database.run(BYTES)
                self.bytes = int(rows[0][0])
            await asyncio.sleep(MEASURE_SECONDS)
