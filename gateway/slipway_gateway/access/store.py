"""Policy store and grant store in PostgreSQL; every change is recorded in the audit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Row, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.access.audit import note
from slipway_gateway.access.context import RequestContext
from slipway_gateway.errors import Conflict, NotFound
from slipway_gateway.postgresql.database import ConstraintViolation, Database
from slipway_gateway.postgresql.tables import grants, policies


class AccessStore:
    """The rows of one table by primary key. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, table: Table, noun: str) -> None:
        self._database = database
        self._table = table
        self._noun = noun
        (self._key,) = table.primary_key.columns

    @classmethod
    def of_policies(cls, database: Database) -> "AccessStore":
        return cls(database, policies, "policy")

    @classmethod
    def of_grants(cls, database: Database) -> "AccessStore":
        return cls(database, grants, "grant")

    async def all(self, **equal: Any) -> list[Row[Any]]:
        """Return the rows in key order; ``equal`` filters by column values."""
        query = select(self._table).order_by(self._key)
        for name, value in equal.items():
            query = query.where(self._table.c[name] == value)
        return await self._database.run(query)

    async def one(self, key: str) -> Row[Any]:
        """Return the row with this key. Raises NotFound."""
        rows = await self._database.run(select(self._table).where(self._key == key))
        return self._found(rows[0] if rows else None, key)

    async def create(
        self, context: RequestContext, values: Mapping[str, Any], shown: dict[str, Any]
    ) -> Row[Any]:
        """Insert and return a row; ``shown`` is the audit detail. Raises Conflict."""
        async with self._changing() as connection:
            statement = insert(self._table).values(**values).returning(self._table)
            row: Row[Any] = (await connection.execute(statement)).one()
            await self._note(connection, context, "create", values[self._key.name], shown)
        return row

    async def replace(
        self, context: RequestContext, key: str, values: Mapping[str, Any], shown: dict[str, Any]
    ) -> Row[Any]:
        """Replace and return a row; ``shown`` is the audit detail. Raises NotFound, Conflict."""
        async with self._changing() as connection:
            statement = (
                update(self._table).where(self._key == key).values(**values).returning(self._table)
            )
            row = self._found((await connection.execute(statement)).one_or_none(), key)
            await self._note(connection, context, "replace", key, shown)
        return row

    async def delete(self, context: RequestContext, key: str) -> None:
        """Delete a row. Raises NotFound, Conflict."""
        async with self._changing() as connection:
            statement = delete(self._table).where(self._key == key).returning(self._key)
            self._found((await connection.execute(statement)).one_or_none(), key)
            await self._note(connection, context, "delete", key, None)

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._database.transaction() as connection:
                yield connection
        except ConstraintViolation as error:
            raise Conflict(f"{self._noun} conflicts with stored rows: {error}") from error

    async def _note(
        self,
        connection: AsyncConnection,
        context: RequestContext,
        verb: str,
        key: str,
        shown: dict[str, Any] | None,
    ) -> None:
        await note(connection, context, f"{self._noun}.{verb}", f"{self._table.name}/{key}", shown)

    def _found(self, row: Row[Any] | None, key: str) -> Row[Any]:
        if row is None:
            raise NotFound(f"{self._noun} {key} does not exist")
        return row
