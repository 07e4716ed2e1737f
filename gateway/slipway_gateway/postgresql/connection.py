"""Connections to PostgreSQL with a client-side deadline, for servers that do not respond."""

import time
from collections.abc import AsyncGenerator
from typing import Any, Self

from psycopg import AsyncConnection, Notify, OperationalError
from psycopg.abc import RV, PQGen
from slipway_contract.postgresql import client_seconds, connection_parameters

STATEMENT_SECONDS = 20.0
TRANSACTION_SECONDS = 60.0
EXPORT_STATEMENT_SECONDS = 120.0
"""An export sorts all labelled predictions of its period before it returns the first row."""


class Connection(AsyncConnection[Any]):
    """A connection that is closed when a statement exceeds ``statement_seconds`` and a margin.

    psycopg waits without a limit, and so does a pool that checks a connection. A caller may change
    ``statement_seconds`` temporarily, together with the server's ``statement_timeout``.
    """

    statement_seconds: float = STATEMENT_SECONDS
    _listens = False

    @classmethod
    async def connect(  # type: ignore[override]  # our callers pass keywords only
        cls, conninfo: str = "", *, statement_seconds: float = STATEMENT_SECONDS, **given: Any
    ) -> Self:
        connection = await super().connect(conninfo, **given)
        connection.statement_seconds = statement_seconds
        return connection

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:  # noqa: ASYNC109  (psycopg's)
        if self._listens:  # a notification may never arrive
            return await super().wait(gen, interval, timeout)
        seconds = client_seconds(self.statement_seconds)
        deadline = time.monotonic() + seconds
        try:
            return await super().wait(gen, interval, seconds)
        except OperationalError as error:
            if time.monotonic() < deadline:
                raise
            self.pgconn.finish()
            raise OperationalError(
                f"PostgreSQL did not answer within {seconds:g} s; the connection is closed"
            ) from error

    async def notifies(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  (psycopg's)
        stop_after: int | None = None,
    ) -> AsyncGenerator[Notify]:
        self._listens = True
        try:
            async for notification in super().notifies(timeout=timeout, stop_after=stop_after):
                yield notification
        finally:
            self._listens = False


def parameters(url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> dict[str, Any]:
    """Return the keyword arguments of ``Connection.connect`` for gateway and worker."""
    shared = connection_parameters(
        url, statement_seconds=statement_seconds, transaction_idle_seconds=TRANSACTION_SECONDS
    )
    return {**shared, "statement_seconds": statement_seconds}
