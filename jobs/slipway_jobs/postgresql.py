"""Adapter of psycopg for Jobs: a server that does not respond in time is an error."""

import time
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from slipway_contract.postgresql import client_seconds, connection_parameters

Error = psycopg.Error

STATEMENT_SECONDS = 1800.0
"""Seconds that a statement may take.

A load of sales is one statement over all rows, and a load that waits for another one takes the time
of both.
"""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not respond to a statement in time.

    psycopg itself waits without a limit.
    """

    statement_seconds: float = STATEMENT_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        seconds = client_seconds(self.statement_seconds) if timeout is None else timeout
        deadline = time.monotonic() + seconds
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError as error:
            if timeout is not None or time.monotonic() < deadline:
                raise
            self.pgconn.finish()
            message = f"PostgreSQL did not respond within {seconds:g} s; the connection is closed"
            raise psycopg.OperationalError(message) from error


def connect(
    url: str,
    *,
    statement_seconds: float = STATEMENT_SECONDS,
    autocommit: bool = False,
    options: str = "",
) -> Connection:
    """Open a connection. Raises psycopg.Error.

    ``options`` are server settings of the session, such as ``-c search_path=x``.
    """
    given: dict[str, Any] = connection_parameters(url, statement_seconds=statement_seconds)
    given["options"] = f"{given['options']} {options}".strip()
    connection = Connection.connect(url, autocommit=autocommit, **given)
    connection.statement_seconds = statement_seconds
    return connection
