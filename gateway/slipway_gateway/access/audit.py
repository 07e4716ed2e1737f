"""Who changed what: a row in the same transaction as the change, so that neither is there without the other."""

from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.access.call import Call
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import audit


class Audit:
    """The list is read here; ``note`` is for whoever changes something."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entries(self, *, before: int | None, limit: int) -> list[Row[Any]]:
        """The newest first; ``before`` is the number of the last entry that was seen. Raises Away."""
        query = select(audit).order_by(audit.c.number.desc()).limit(limit)
        return await self._database.run(query if before is None else query.where(audit.c.number < before))


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
