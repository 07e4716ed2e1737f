"""The door to PostgreSQL for everything but the hot path."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from slipway_gateway.errors import Unavailable


class Unacceptable(Exception):
    """The database will never take this, however often it is sent."""


class Away(Unavailable):
    """The database cannot be reached, or is not as the migrations make it."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("the database cannot be asked now", retry_after=5)
        self.cause = str(getattr(cause, "orig", cause)).partition("\n")[0]


def sqlalchemy_url(url: str) -> str:
    """A plain libpq URL with the driver that SQLAlchemy is to use."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


class Database:
    """A small pool of connections. Every use raises Away while there is no database, and Unacceptable when a row breaks a rule
    of its table."""

    def __init__(self, url: str) -> None:
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=4,
            max_overflow=4,
            pool_timeout=5,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5},
        )

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Committed at the end of the block, rolled back when it raises."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (DataError, IntegrityError) as error:
            raise Unacceptable(str(error.orig).partition("\n")[0]) from error
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            raise Away(error) from error

    async def run(self, statement: Any, parameters: Any = None) -> list[Row[Any]]:
        """One statement in a transaction of its own."""
        async with self.transaction() as connection:
            result = await connection.execute(statement, parameters)
            return list(result.all()) if result.returns_rows else []
