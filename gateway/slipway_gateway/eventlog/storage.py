"""The storage budget of callers in PostgreSQL, for images, tasks, batches and feedback.

Triggers of these tables count the bytes (migration 0011), so that a check reads one sum. The budget
never blocks reads and deletes.
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
"""Lifetime of the cached total. The gateways' concurrency bounds the bytes stored meanwhile."""
MEASURE_SECONDS = 60.0

BYTES = select(func.coalesce(func.sum(storage.c.bytes), 0))
"""Sum over all callers; a WHERE condition restricts it to one."""


class Storage:
    """Checks of the storage budget. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, *, per_caller: int, limit: int) -> None:
        self._database = database
        self._per_caller = per_caller
        self._limit = limit
        self._total, self._read = 0, float("-inf")
        self.bytes = 0
        """Stored bytes of all callers, measured every minute for the metrics."""

    async def check(self, subject: str, more: int = 0, *, seconds: float | None = None) -> None:
        """Check that ``more`` bytes fit into the budget, within a timeout of ``seconds``.

        Raises StorageSpent, StorageFull.
        """
        async with self._database.transaction(seconds=seconds) as connection:
            await self.settle(connection, subject, more)

    async def settle(self, connection: AsyncConnection, subject: str, more: int = 0) -> None:
        """Check the budget after the writes of a transaction, plus ``more`` bytes.

        The transaction locks the caller's counter, so that the caller's sum is exact. Raises
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
        """Measure the total and delete counters of zero every minute until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the next run makes up for it
                await self._database.run(delete(storage).where(storage.c.bytes == 0))
                rows = await self._database.run(BYTES)
                self.bytes = int(rows[0][0])
            await asyncio.sleep(MEASURE_SECONDS)
