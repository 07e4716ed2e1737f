"""Keeps the grants in memory: read when PostgreSQL notifies of a change, and from time to time."""

import asyncio
import logging
import time

import psycopg
from psycopg.rows import dict_row

from slipway_gateway.access.grants import Grant, Grants
from slipway_gateway.errors import Unavailable
from slipway_gateway.limits.policy import Policy, Priority

log = logging.getLogger(__name__)

CHANNEL = "slipway_grants"
"""Notified by a trigger on both tables, so by whoever changes them."""
PAUSE_SECONDS = 1.0
QUERY = """
SELECT g.grant_id, g.grantee, g.models, extract(epoch FROM g.expires)::float8 AS expires,
       p.name, p.requests_per_day, p.requests_per_month, p.predictions_per_minute, p.priority, p.cache_seconds
FROM grants g JOIN policies p ON p.name = g.policy ORDER BY g.created, g.grant_id
"""


class GrantWatch:
    """While PostgreSQL is away the last snapshot stays: whoever could predict still can, whoever could not still cannot."""

    def __init__(self, url: str, *, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._snapshot: Grants | None = None
        self._read_at = 0.0
        self.problem: str | None = None
        """Why the last reading failed; None after a good one."""

    @property
    def snapshot(self) -> Grants:
        """Raises Unavailable until the grants were read for the first time: without them nobody may do anything."""
        if self._snapshot is None:
            raise Unavailable("the grants are not known yet: the database has not answered")
        return self._snapshot

    @property
    def known(self) -> bool:
        return self._snapshot is not None

    @property
    def age(self) -> float:
        """Seconds since the last reading; infinite before the first one."""
        return time.monotonic() - self._read_at if self.known else float("inf")

    async def keep(self) -> None:
        """For ever."""
        while True:
            try:
                await self._follow()
            except (psycopg.Error, OSError) as error:
                if self.problem is None:
                    log.warning("the grants stay as they were %.0f s ago, the database is away: %s", self.age, error)
                self.problem = str(error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        """By one connection. It listens before it reads, so that no change falls in between."""
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            application_name="slipway-gateway grants",
            # A connection that broke without a word is found within seconds, not with the next word that never comes.
            keepalives_idle=2,
            keepalives_interval=1,
            keepalives_count=3,
            tcp_user_timeout=5000,
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            while True:
                self._snapshot = await self._read(connection)
                self._read_at, self.problem = time.monotonic(), None
                async for _ in connection.notifies(timeout=self._seconds, stop_after=1):
                    pass

    @staticmethod
    async def _read(connection: psycopg.AsyncConnection) -> Grants:
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(QUERY)
            return Grants([_grant(row) async for row in cursor])


def _grant(row: dict[str, object]) -> Grant:
    grant = {name: row.pop(name) for name in ("grant_id", "grantee", "models")}
    expires = row.pop("expires")
    policy = Policy(**{**row, "priority": Priority(row["priority"])})  # type: ignore[arg-type]
    return Grant(**grant, policy=policy, expires=float("inf") if expires is None else expires)  # type: ignore[arg-type]
