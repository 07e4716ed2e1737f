"""An in-memory copy of the grants, read on each PostgreSQL notification and periodically.

An invalid row grants nothing and does not prevent reading the other rows, so it cannot delay a
revocation.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from slipway_gateway.access.grants import Grant, Grants
from slipway_gateway.errors import Unavailable
from slipway_gateway.limits.policy import Policy, Priority
from slipway_gateway.postgresql.connection import STATEMENT_SECONDS, Connection, parameters

log = logging.getLogger(__name__)

CHANNEL = "slipway_grants"
"""The channel that a trigger on both tables notifies of every change."""
PAUSE_SECONDS = 1.0
TERMS = ("requests_per_day", "requests_per_month", "predictions_per_minute", "cache_seconds")
QUERY = """
SELECT g.grant_id, g.grantee, g.models, extract(epoch FROM g.expires)::float8 AS expires,
       p.name, p.requests_per_day, p.requests_per_month, p.predictions_per_minute, p.priority,
       p.cache_seconds
FROM grants g JOIN policies p ON p.name = g.policy ORDER BY g.created, g.grant_id
"""


class GrantWatch:
    """The current grants. The last snapshot remains in use while PostgreSQL is unavailable."""

    def __init__(
        self, url: str, *, seconds: float, statement_seconds: float = STATEMENT_SECONDS
    ) -> None:
        self._url = url
        self._statement_seconds = statement_seconds
        self._seconds = seconds
        self._snapshot: Grants | None = None
        self._read_at = 0.0
        self.unreadable: frozenset[str] = frozenset()
        """Ids of the invalid grants that the last read omitted."""
        self.problem: str | None = None
        """Error of the last read; None after a successful one."""

    @property
    def snapshot(self) -> Grants:
        """The grants of the last successful read. Raises Unavailable before the first one."""
        if self._snapshot is None:
            raise Unavailable(
                "the grants are not loaded yet: PostgreSQL has not responded; retry later"
            )
        return self._snapshot

    @property
    def known(self) -> bool:
        return self._snapshot is not None

    @property
    def age(self) -> float:
        """Seconds since the last successful read; infinite before the first one."""
        return time.monotonic() - self._read_at if self.known else float("inf")

    async def keep(self) -> None:
        """Follow changes of the grants until cancelled, and reconnect after an error."""
        while True:
            try:
                await self._follow()
            except (psycopg.Error, OSError) as error:
                if self.problem is None:
                    log.warning(
                        "the grants of %.0f s ago remain in use, PostgreSQL is unavailable: %s",
                        self.age,
                        error,
                    )
                self.problem = str(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        """Read the grants on one connection after each notification and after ``seconds``.

        LISTEN precedes the first read, so that no change is missed between them.
        """
        given = parameters(self._url, statement_seconds=self._statement_seconds)
        connection = await Connection.connect(
            self._url, autocommit=True, application_name="slipway-gateway grants", **given
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            while True:
                self._snapshot = self._parse(await self._read(connection))
                self._read_at, self.problem = time.monotonic(), None
                async for _ in connection.notifies(timeout=self._seconds, stop_after=1):
                    pass

    @staticmethod
    async def _read(connection: psycopg.AsyncConnection[Any]) -> list[dict[str, Any]]:
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERY)
            return await cursor.fetchall()

    def _parse(self, rows: Iterable[dict[str, Any]]) -> Grants:
        grants: list[Grant] = []
        unreadable: dict[str, str] = {}
        for row in rows:
            try:
                grants.append(_grant(row))
            except (TypeError, ValueError, re.error) as error:
                unreadable[str(row["grant_id"])] = str(error)
        for grant_id in unreadable.keys() - self.unreadable:
            log.error(
                "grant %s is invalid and grants nothing: %s; correct or delete it",
                grant_id,
                unreadable[grant_id],
            )
        self.unreadable = frozenset(unreadable)
        return Grants(grants)


def _grant(row: Mapping[str, Any]) -> Grant:
    """Return the grant of a database row. Raises TypeError, ValueError, re.error."""
    terms = {name: row[name] for name in TERMS}
    if any(value is not None and value < 0 for value in terms.values()):
        raise ValueError(f"policy {row['name']} has a negative limit")
    policy = Policy(row["name"], priority=Priority(row["priority"]), **terms)
    expires = float("inf") if row["expires"] is None else row["expires"]
    return Grant(row["grant_id"], row["grantee"], row["models"], policy, expires)
