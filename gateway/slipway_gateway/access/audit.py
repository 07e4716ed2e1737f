"""The audit trail: one row for each change, written in the transaction of the change."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncTransaction

from slipway_gateway.access.context import RequestContext
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import audit

log = logging.getLogger(__name__)


class Audit:
    """The audit entries. ``note`` adds an entry in the transaction of a database change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, *, before: int | None, limit: int) -> list[Row[Any]]:
        """Return at most ``limit`` entries, newest first.

        ``before``: return only entries with a smaller number. Raises DatabaseUnavailable.
        """
        query = select(audit).order_by(audit.c.number.desc()).limit(limit)
        return await self._database.run(
            query if before is None else query.where(audit.c.number < before)
        )

    @asynccontextmanager
    async def noted(
        self, context: RequestContext, action: str, thing: str, detail: dict[str, Any] | None = None
    ) -> AsyncIterator[AsyncTransaction]:
        """Record a change that the block makes outside the database.

        An exception in the block removes the entry. The block may roll the entry back when nothing
        changed, and must not use the database. Raises DatabaseUnavailable.
        """
        async with self._database.transaction() as connection:
            entry = await connection.begin_nested()
            await note(connection, context, action, thing, detail)
            yield entry

    async def write(
        self, context: RequestContext, action: str, thing: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Record a completed change. Raises DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            await note(connection, context, action, thing, detail)


async def note(
    connection: AsyncConnection,
    context: RequestContext,
    action: str,
    thing: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Insert an audit entry in the transaction of ``connection``.

    ``action`` is a name such as ``grant.create``; ``thing`` is the path of the changed resource
    under ``/v1``; ``detail`` is JSON, the new state of the resource or its state before deletion,
    and contains no secrets.
    """
    values = {
        "subject": context.caller.subject,
        "address": context.address or None,
        "request_id": context.request_id,
        "action": action,
        "thing": thing,
        "detail": detail,
    }
    await connection.execute(insert(audit).values(values))
    log.info("%s: %s %s", context.caller.subject, action, thing)
