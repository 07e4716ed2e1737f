"""A content-addressed store of the images in prediction requests, with a retention in days."""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, exists, func, select
from sqlalchemy.dialects.postgresql import insert

from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.postgresql.database import MAINTENANCE_SECONDS, Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import (
    images,
    prediction_events,
    prediction_images,
    retention,
)

HOUR = 3600.0
CHECK_SECONDS = 2.0
"""Maximum wait of a prediction for the check of the storage budget."""


class ImageStore:
    """The image store in PostgreSQL. It is disabled when ``days`` is 0."""

    def __init__(self, database: Database, storage: Storage, *, days: int) -> None:
        self._database = database
        self._storage = storage
        self._days = days

    async def check(self, subject: str, files: Sequence[bytes]) -> None:
        """Check the storage budget before a prediction. Raises StorageSpent, StorageFull."""
        if self._days and files:
            with suppress(DatabaseUnavailable):  # predictions do not depend on the database
                await self._storage.check(subject, sum(map(len, files)), seconds=CHECK_SECONDS)

    async def add(self, request_id: str, subject: str, files: Sequence[bytes]) -> None:
        """Store the files of a prediction in their order.

        Raises StorageSpent, StorageFull, DatabaseUnavailable.
        """
        if not self._days or not files:
            return
        now = datetime.now(UTC)
        digests = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in files]
        known = dict(zip(digests, files, strict=True))
        async with self._database.transaction() as connection:
            # One statement in sorted order: concurrent transactions cannot deadlock.
            rows = [
                {"digest": digest, "content": known[digest], "time": now, "subject": subject}
                for digest in sorted(known)
            ]
            # The update locks the rows until the links are committed: a concurrent sweep waits and
            # then sees the new time.
            statement = insert(images).on_conflict_do_update(
                index_elements=["digest"], set_={"time": now}
            )
            await connection.execute(statement.values(rows))
            links = [
                {
                    "request_id": request_id,
                    "number": number,
                    "subject": subject,
                    "digest": digest,
                    "time": now,
                }
                for number, digest in enumerate(digests)
            ]
            await connection.execute(insert(prediction_images).on_conflict_do_nothing(), links)
            await self._storage.settle(connection, subject)

    async def list(self, request_id: str) -> Sequence[Row[Any]]:
        """Return number and digest of each stored image of a prediction."""
        links = prediction_images.c
        query = (
            select(links.number, links.digest)
            .where(links.request_id == request_id)
            .order_by(links.number)
        )
        return await self._database.run(query)

    async def image(self, request_id: str, number: int) -> Row[Any] | None:
        """Return digest and content of one image of a prediction."""
        links = prediction_images.c
        query = select(images.c.digest, images.c.content).join(
            prediction_images, links.digest == images.c.digest
        )
        rows = await self._database.run(
            query.where(links.request_id == request_id, links.number == number)
        )
        return rows[0] if rows else None

    async def keep(self) -> None:
        """Delete expired images every hour until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the next run makes up for it
                await self.sweep()
            await asyncio.sleep(HOUR)

    async def sweep(self) -> None:
        """Delete expired links and the images without a link. Raises DatabaseUnavailable.

        Images of a Model with ``spec.retention.bodies`` expire by it.
        """
        links, now = prediction_images.c, datetime.now(UTC)
        own = (
            select(retention.c.body_days)
            .join(prediction_events, prediction_events.c.model == retention.c.model)
            .where(prediction_events.c.request_id == links.request_id)
        ).scalar_subquery()
        days = func.coalesce(own, self._days) if self._days else 0
        expired = links.time < now - days * timedelta(days=1)
        await self._database.run(
            delete(prediction_images).where(expired), seconds=MAINTENANCE_SECONDS
        )
        linked = exists().where(prediction_images.c.digest == images.c.digest)
        # A recently updated image may have links in an uncommitted transaction.
        young = now - timedelta(minutes=1)
        await self._database.run(
            delete(images).where(~linked, images.c.time < young), seconds=MAINTENANCE_SECONDS
        )
