"""Who changed what: a row in the same transaction as the change, so that neither is there without
the other.
"""

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
    """The entries; ``note`` adds one in the transaction of a change of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, *, before: int | None, limit: int) -> list[Row[Any]]:
        """The newest first; ``before`` is the number of the last entry that was seen. Raises
        DatabaseUnavailable.
        """
        query = select(audit).order_by(audit.c.number.desc()).limit(limit)
        return await self._database.run(
            query if before is None else query.where(audit.c.number < before)
        )

    @asynccontextmanager
    async def noted(
        self, context: RequestContext, action: str, thing: str, detail: dict[str, Any] | None = None
    ) -> AsyncIterator[AsyncTransaction]:
        """Note a change that is made in this block, outside the database: without the change there
        is no entry.

        The block may roll the entry back when nothing changed, and must not use the database.
        Raises DatabaseUnavailable.
        """
        async with self._database.transaction() as connection:
            entry = await connection.begin_nested()
            await note(connection, context, action, thing, detail)
            yield entry

    async def write(
        self, context: RequestContext, action: str, thing: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Note a change that was made. Raises DatabaseUnavailable."""
        async with self._database.transaction() as connection:
            await note(connection, context, action, thing, detail)


async def note(
    connection: AsyncConnection,
    context: RequestContext,
    action: str,
    thing: str,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down that the caller did ``action`` (``grant.create``) to ``thing`` (its path under
    ``/v1``).

    ``detail`` is JSON: what it was made, or what it was when it was deleted. Never a secret.
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
