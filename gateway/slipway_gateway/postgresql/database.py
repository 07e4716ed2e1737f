"""The door to PostgreSQL for everything but the hot path."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from slipway_gateway.errors import Unavailable
from slipway_gateway.postgresql.connection import (
    STATEMENT_SECONDS,
    TRANSACTION_SECONDS,
    Connection,
    parameters,
)

MAINTENANCE_SECONDS = 600.0
"""For a transaction that touches every row of a person or of a day: it may take long, and nobody
waits for it.
"""
CONSTRAINT_CLASSES = ("21", "22", "23", "44", "54", "P0")
"""Classes of SQLSTATE by which PostgreSQL refuses a row however often it is sent: cardinality,
data, integrity, check option, program limits (a key that no index takes), and errors that a trigger
raises.
"""


class ConstraintViolation(Exception):
    """The database will never take this, however often it is sent."""


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, or is not as the migrations make it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("the database cannot be asked now", retry_after=5)
        self.cause = str(getattr(cause, "orig", cause)).partition("\n")[0]


def sqlalchemy_url(url: str) -> str:
    """A plain libpq URL with the driver that SQLAlchemy is to use."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


class Database:
    """A small pool of connections. Every use raises DatabaseUnavailable while there is no database,
    and ConstraintViolation when a row breaks a rule of its table.

    ``statement_seconds`` is the time that a statement may take; a transaction may take three times
    as long.
    """

    def __init__(self, url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        self._transaction_seconds = statement_seconds * TRANSACTION_SECONDS / STATEMENT_SECONDS
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=4,
            max_overflow=4,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={
                **parameters(url, statement_seconds=statement_seconds),
                "async_creator_fn": Connection.connect,
            },
        )

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self, *, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Committed at the end of the block, rolled back when it raises.

        ``seconds`` is the time for the transaction, and for each of its statements; None: the usual
        ones.
        """
        try:
            async with (
                asyncio.timeout(seconds or self._transaction_seconds),
                self._engine.begin() as connection,
            ):
                if seconds is None:
                    yield connection
                else:
                    async with _patience(connection, seconds):
                        yield connection
        except DBAPIError as error:
            # psycopg refuses some values itself, without an SQLSTATE.
            code = str(getattr(error.orig, "sqlstate", None) or "")
            if isinstance(error, DataError | IntegrityError) or code.startswith(CONSTRAINT_CLASSES):
                raise ConstraintViolation(str(error.orig).partition("\n")[0]) from error
            raise DatabaseUnavailable(error) from error
        except TimeoutError as error:
            late = OSError(
                f"a transaction was not done within {seconds or self._transaction_seconds:g} s"
            )
            raise DatabaseUnavailable(late) from error
        except (PoolTimeoutError, OSError) as error:
            raise DatabaseUnavailable(error) from error

    async def run(
        self, statement: Any, parameters: Any = None, *, seconds: float | None = None
    ) -> list[Row[Any]]:
        """One statement in a transaction of its own."""
        async with self.transaction(seconds=seconds) as connection:
            result = await connection.execute(statement, parameters)
            return list(result.all()) if result.returns_rows else []


@asynccontextmanager
async def _patience(connection: AsyncConnection, seconds: float) -> AsyncIterator[None]:
    """Give each statement of a transaction that many seconds."""
    raw = (await connection.get_raw_connection()).driver_connection
    if not isinstance(raw, Connection):
        raise TypeError(f"a connection of {type(raw).__name__} has no deadline")
    usual, raw.statement_seconds = raw.statement_seconds, seconds
    try:
        # The setting ends with the transaction.
        await connection.execute(text(f"SET LOCAL statement_timeout = {round(seconds * 1000)}"))
        yield
    finally:
        raw.statement_seconds = usual
