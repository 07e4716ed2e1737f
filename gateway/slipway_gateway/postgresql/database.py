"""The connection pool and the transactions of the gateway, based on SQLAlchemy."""

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
"""Timeout of background transactions that update all rows of a user or of a day."""
CONSTRAINT_CLASSES = ("21", "22", "23", "44", "54", "P0")
"""Classes of SQLSTATE for rows that PostgreSQL rejects at every retry: cardinality, data,
integrity, check option, program limits (a key too large for an index), and errors of triggers.
"""


class ConstraintViolation(Exception):
    """The database rejects a row; a retry would fail the same way."""


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached, or its schema is not the one of the migrations."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("the database is unavailable", retry_after=5)
        self.cause = str(getattr(cause, "orig", cause)).partition("\n")[0]


def sqlalchemy_url(url: str) -> str:
    """Return a libpq URL with SQLAlchemy's driver name."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


class Database:
    """A small connection pool.

    All methods raise DatabaseUnavailable, and ConstraintViolation for a row that violates a
    constraint of its table. ``statement_seconds`` is the timeout of a statement; a transaction may
    take three times as long.
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
        """Open a transaction that commits at the end of the block and rolls back on an error.

        ``seconds`` is the timeout of the transaction and of each statement; None means the
        defaults.
        """
        try:
            async with (
                asyncio.timeout(seconds or self._transaction_seconds),
                self._engine.begin() as connection,
            ):
                if seconds is None:
                    yield connection
                else:
                    async with _statement_timeout(connection, seconds):
                        yield connection
        except DBAPIError as error:
            # psycopg rejects some values itself, without an SQLSTATE.
            code = str(getattr(error.orig, "sqlstate", None) or "")
            if isinstance(error, DataError | IntegrityError) or code.startswith(CONSTRAINT_CLASSES):
                raise ConstraintViolation(str(error.orig).partition("\n")[0]) from error
            raise DatabaseUnavailable(error) from error
        except TimeoutError as error:
            limit = seconds or self._transaction_seconds
            late = OSError(f"a transaction did not complete within {limit:g} s")
            raise DatabaseUnavailable(late) from error
        except (PoolTimeoutError, OSError) as error:
            raise DatabaseUnavailable(error) from error

    async def run(
        self, statement: Any, parameters: Any = None, *, seconds: float | None = None
    ) -> list[Row[Any]]:
        """Run one statement in its own transaction and return its rows."""
        async with self.transaction(seconds=seconds) as connection:
            result = await connection.execute(statement, parameters)
            return list(result.all()) if result.returns_rows else []


@asynccontextmanager
async def _statement_timeout(connection: AsyncConnection, seconds: float) -> AsyncIterator[None]:
    """Set the statement timeout on client and server for the current transaction."""
    raw = (await connection.get_raw_connection()).driver_connection
    if not isinstance(raw, Connection):
        raise TypeError(f"a connection of {type(raw).__name__} has no deadline")
    usual, raw.statement_seconds = raw.statement_seconds, seconds
    try:
        await connection.execute(text(f"SET LOCAL statement_timeout = {round(seconds * 1000)}"))
        yield
    finally:
        raw.statement_seconds = usual
