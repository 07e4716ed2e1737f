"""Retention of the event log: bodies of predictions expire first, their rows with feedback later.

A Model declares its days in ``spec.retention``; the settings have those of all others. The table
``retention`` has the days of each Model, so that those of a deleted one remain in effect.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from anyio import to_thread
from pydantic import ValidationError
from slipway_cluster.interface import MODEL, Cluster, ClusterError, Manifest
from slipway_contract.retention import Retention
from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import retention

log = logging.getLogger(__name__)

PAUSE_SECONDS = 3600.0
CONTINUE_SECONDS = 60.0
"""Pause after a pass that is not complete."""
PASS_SECONDS = 600.0
BATCH_SECONDS = 60.0
"""Timeout of a batch, which is a transaction."""
BATCH = 500
"""Rows of a batch. Each may have a request and a response of the log's maximum length."""

LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('retention', 0))")

MODELS = text("""
WITH RECURSIVE found AS (
  (SELECT model FROM prediction_events ORDER BY model LIMIT 1)
  UNION ALL
  SELECT (SELECT model FROM prediction_events WHERE model > found.model ORDER BY model LIMIT 1)
  FROM found WHERE found.model IS NOT NULL
)
SELECT model FROM found WHERE model IS NOT NULL
""")
"""The models with predictions, one look-up in an index for each."""

# A row that another transaction has locked is left to the next pass: a batch waits for no lock, and
# cannot be part of a deadlock.
TRIM = text("""
WITH expired AS (
  SELECT request_id FROM prediction_events
  WHERE model = :model AND time >= :since AND time < :until
    AND (time, request_id) > (:since, :after) AND (request IS NOT NULL OR response IS NOT NULL)
  ORDER BY time, request_id LIMIT :rows FOR UPDATE SKIP LOCKED
)
UPDATE prediction_events e SET request = NULL, response = NULL, bodies_removed = now()
FROM expired WHERE e.request_id = expired.request_id
RETURNING e.time, e.request_id
""")
EXPIRED = text("""
SELECT time, request_id FROM prediction_events
WHERE model = :model AND time >= :since AND time < :until
  AND (time, request_id) > (:since, :after)
ORDER BY time, request_id LIMIT :rows
""")
DELETE_FEEDBACK = text("""
DELETE FROM feedback WHERE feedback_id IN (
  SELECT feedback_id FROM feedback WHERE request_id = ANY(:ids) FOR UPDATE SKIP LOCKED
)
""")
DELETE_IMAGES = text("""
DELETE FROM prediction_images WHERE (request_id, number) IN (
  SELECT request_id, number FROM prediction_images WHERE request_id = ANY(:ids)
  FOR UPDATE SKIP LOCKED
)
""")
DELETE_EVENTS = text("""
DELETE FROM prediction_events WHERE request_id IN (
  SELECT request_id FROM prediction_events e WHERE request_id = ANY(:ids)
    AND NOT EXISTS (SELECT FROM feedback f WHERE f.request_id = e.request_id)
  FOR UPDATE SKIP LOCKED
)
""")
"""Feedback that could not be deleted would be left without its prediction."""


class _RunsElsewhere(Exception):
    """Another gateway holds the lock."""


class EventRetention:
    """A periodic task that deletes what has expired, by one gateway at a time."""

    def __init__(
        self, database: Database, cluster: Cluster, *, body_days: int, fact_days: int
    ) -> None:
        """Create the task; the days are those of Models without their own, 0 for no end."""
        self._database = database
        self._cluster = cluster
        self._body_days = body_days
        self._fact_days = fact_days

    async def keep(self) -> None:
        """Run a pass every hour until cancelled."""
        while True:
            complete = False
            with suppress(DatabaseUnavailable):  # the next pass makes up for it
                complete = await self.once()
            await asyncio.sleep(PAUSE_SECONDS if complete else CONTINUE_SECONDS)

    async def once(self, seconds: float = PASS_SECONDS) -> bool:
        """Run one pass of at most ``seconds``; return whether it is complete.

        A pass can be repeated and ended at any time: each batch is a transaction, and finds what
        the ones before have left. Raises DatabaseUnavailable.
        """
        deadline = time.monotonic() + seconds
        try:
            # Not the snapshot of the routes: it may be old, and a longer retention is not in it.
            manifests = await to_thread.run_sync(self._cluster.list, MODEL)
        except (ClusterError, OSError) as error:
            log.warning("retention waits, the Models cannot be read: %s", error)
            return False
        try:
            unknown = await self._record(manifests)
            days = {row.model: row for row in await self._database.run(select(retention))}
            for row in await self._database.run(MODELS, seconds=BATCH_SECONDS):
                own = days.get(row.model)
                if own is None and row.model in unknown:
                    continue
                bodies = (own and own.body_days) or self._body_days
                facts = (own and own.fact_days) or self._fact_days
                if facts and own and own.body_days:  # a body is not stored without its facts
                    facts = max(facts, own.body_days)
                if not await self._expire(row.model, bodies, facts, deadline):
                    log.info("retention has not completed within %g s and continues", seconds)
                    return False
        except _RunsElsewhere:
            log.debug("another gateway applies the retention")
        return True

    async def _record(self, manifests: Sequence[Manifest]) -> set[str]:
        """Store the days of the Models; return the names of those whose days are invalid.

        A deleted Model keeps its row, and an invalid one that of its last valid days.
        """
        unknown, none = set(), []
        async with self._batch() as connection:
            for manifest in manifests:
                name = manifest["metadata"]["name"]
                try:
                    given = manifest["spec"].get("retention")
                    days = Retention() if given is None else Retention.model_validate(given)
                except ValidationError as error:
                    log.warning("spec.retention of model %s is invalid: %s", name, error)
                    unknown.add(name)
                    continue
                values = {"body_days": days.body_days, "fact_days": days.fact_days}
                if not any(values.values()):
                    none.append(name)
                    continue
                statement = insert(retention).values(model=name, **values)
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=["model"], set_=values)
                )
            await connection.execute(delete(retention).where(retention.c.model.in_(none)))
        return unknown

    async def _expire(self, model: str, bodies: int, facts: int, deadline: float) -> bool:
        """Delete what has expired of one model; return False when the deadline passes before."""
        for days, step, what in (
            (facts, self._delete, "predictions"),
            (bodies, self._trim, "requests and responses"),
        ):
            if not days:
                continue
            until = datetime.now(UTC) - timedelta(days=days)
            place: dict[str, Any] = {"since": datetime.min.replace(tzinfo=UTC), "after": ""}
            total, found = 0, BATCH
            while found == BATCH and time.monotonic() < deadline:
                rows = await step({"model": model, "until": until, "rows": BATCH, **place})
                found, total = len(rows), total + len(rows)
                if rows:
                    place = dict(
                        zip(("since", "after"), max(tuple(row) for row in rows), strict=True)
                    )
            if total:
                log.info(
                    "retention: %d %s of model %s before %s", total, what, model, until.isoformat()
                )
            if found == BATCH:
                return False
        return True

    async def _trim(self, values: dict[str, Any]) -> Sequence[Any]:
        async with self._batch() as connection:
            return (await connection.execute(TRIM, values)).all()

    async def _delete(self, values: dict[str, Any]) -> Sequence[Any]:
        async with self._batch() as connection:
            rows = (await connection.execute(EXPIRED, values)).all()
            ids = {"ids": [row.request_id for row in rows]}
            await connection.execute(DELETE_FEEDBACK, ids)
            await connection.execute(DELETE_IMAGES, ids)
        # An erasure locks feedback before predictions: separate transactions lock one at a time.
        async with self._batch() as connection:
            await connection.execute(DELETE_EVENTS, ids)
        return rows

    @asynccontextmanager
    async def _batch(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction with the lock. Raises _RunsElsewhere, DatabaseUnavailable."""
        async with self._database.transaction(seconds=BATCH_SECONDS) as connection:
            if not await connection.scalar(LOCK):
                raise _RunsElsewhere
            yield connection
