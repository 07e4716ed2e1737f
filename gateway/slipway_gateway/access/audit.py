"""Who changed what: a row in the same transaction as the change, so that neither is there without the other."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction

from slipway_gateway.access.context import Call
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import audit

log = logging.getLogger(__name__)


class Audit:
    """The entries; ``note`` adds one in the transaction of a change of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, *, before: int | None, limit: int) -> list[Row[Any]]:
        """The newest first; ``before`` is the number of the last entry that was seen. Raises Away."""
        query = select(audit).order_by(audit.c.number.desc()).limit(limit)
        return await self._database.run(query if before is None else query.where(audit.c.number < before))

    @asynccontextmanager
    async def noted(
        self, call: Call, action: str, thing: str, detail: dict[str, Any] | None = None
    ) -> AsyncIterator[AsyncTransaction]:
        """Note a change that is made in this block, outside the database: without the change there is no entry.

        The block may roll the entry back when nothing changed, and must not use the database. Raises Away.
        """
        async with self._database.transaction() as connection:
            entry = await connection.begin_nested()
            await note(connection, call, action, thing, detail)
            yield entry

    async def write(self, call: Call, action: str, thing: str, detail: dict[str, Any] | None = None) -> None:
        """Note a change that was made. Raises Away."""
        async with self._database.transaction() as connection:
            await note(connection, call, action, thing, detail)


async def note(connection: AsyncConnection, call: Call, action: str, thing: str, detail: dict[str, Any] | None = None) -> None:
    """Write down that the caller did ``action`` (``grant.create``) to ``thing`` (its path under ``/v1``).

    ``detail`` is JSON: what it was made, or what it was when it was deleted. Never a secret.
    """
    values = {
        "subject": call.caller.subject,
        "address": call.address or None,
        "request_id": call.request_id,
        "action": action,
        "thing": thing,
        "detail": detail,
    }
    await connection.execute(insert(audit).values(values))
    log.info("%s: %s %s", call.caller.subject, action, thing)
