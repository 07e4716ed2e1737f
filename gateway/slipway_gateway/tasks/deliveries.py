"""Webhooks and their pending deliveries in PostgreSQL."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import Conflict
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import deliveries, webhooks

PER_CALLER = 10
"""Maximum number of webhooks of a caller."""
BACKLOG = 1000
"""Maximum number of pending deliveries of a webhook; events of further tasks are dropped."""
BREAKER = 5
"""Consecutive failures after which all deliveries of a webhook pause: 2, 4, 8 … seconds."""
LONGEST_PAUSE = 600
LEASE = timedelta(seconds=30)
"""Time after which a claimed delivery can be claimed again, because its worker is dead. It is
longer than an attempt.
"""

LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || :subject, 0))")
ADD = text("""
INSERT INTO deliveries (webhook_id, message_id, task_id, state, due)
SELECT webhook_id, :message_id, :task_id, :state, now() FROM webhooks
WHERE subject = :subject AND disabled IS NULL
    AND (SELECT count(*) FROM deliveries
      WHERE deliveries.webhook_id = webhooks.webhook_id) < :backlog
ON CONFLICT DO NOTHING
""")
CLAIM = text("""
WITH next AS (
    SELECT webhook_id, message_id FROM deliveries JOIN webhooks USING (webhook_id)
    WHERE due <= now() AND (paused_until IS NULL OR paused_until <= now()) AND (verified IS NOT NULL
      OR task_id IS NULL)
        AND host <> ALL(CAST(:hosts AS text[])) AND subject <> ALL(CAST(:subjects AS text[]))
    ORDER BY due LIMIT 1 FOR UPDATE OF deliveries SKIP LOCKED
), claimed AS (
    UPDATE deliveries SET due = now() + :lease FROM next
    WHERE deliveries.webhook_id = next.webhook_id AND deliveries.message_id = next.message_id
      RETURNING deliveries.*
)
SELECT claimed.webhook_id, claimed.message_id, claimed.task_id, claimed.state, claimed.attempts,
       webhooks.subject, webhooks.host, webhooks.url, webhooks.secret,
       tasks.request_id, tasks.model, tasks.status, tasks.finished
FROM claimed JOIN webhooks USING (webhook_id) LEFT JOIN tasks USING (task_id)
""")
FAIL = text("""
UPDATE webhooks SET failed = now(), problem = :problem, failures = failures + 1,
    paused_until = CASE WHEN failures + 1 >= :breaker
        THEN now() + least(power(2, failures + 2 - :breaker), :longest) * interval '1 second' END,
    disabled = CASE WHEN failures + 1 >= :most OR :permanent THEN now() END
WHERE webhook_id = :webhook_id RETURNING disabled
""")


@dataclass(frozen=True)
class Delivery:
    """One message for one webhook; it is the challenge when ``task_id`` is None."""

    webhook_id: str
    message_id: str
    task_id: str | None
    state: str | None
    attempts: int
    """Number of failed attempts."""
    subject: str
    host: str
    url: str
    secret: bytes
    request_id: str | None
    model: str | None
    status: int | None
    finished: datetime | None


class Deliveries:
    """Webhooks and deliveries. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def subscribe(self, webhook_id: str, subject: str, **values: Any) -> None:
        """Store a webhook and the challenge that verifies its URL.

        Raises Conflict when the caller has the maximum number of webhooks.
        """
        async with self._database.transaction() as connection:
            await connection.execute(LOCK, {"subject": subject})
            count = await connection.scalar(
                select(func.count()).where(webhooks.c.subject == subject)
            )
            if int(count or 0) >= PER_CALLER:
                raise Conflict(f"you have {PER_CALLER} webhooks already; delete one first")
            now = datetime.now(UTC)
            await connection.execute(
                insert(webhooks).values(
                    webhook_id=webhook_id, subject=subject, created=now, **values
                )
            )
            await connection.execute(
                insert(deliveries).values(
                    webhook_id=webhook_id, message_id=f"msg_{webhook_id}", due=now
                )
            )

    async def subscriptions(self, subject: str) -> Sequence[Row[Any]]:
        return await self._database.run(
            select(webhooks).where(webhooks.c.subject == subject).order_by(webhooks.c.webhook_id)
        )

    async def unsubscribe(self, subject: str, webhook_id: str) -> bool:
        """Delete a webhook of the caller; return False when there is none."""
        own = (webhooks.c.webhook_id == webhook_id, webhooks.c.subject == subject)
        return bool(
            await self._database.run(delete(webhooks).where(*own).returning(webhooks.c.webhook_id))
        )

    @staticmethod
    async def add(
        connection: AsyncConnection, subject: str, task_id: str, request_id: str, state: str
    ) -> None:
        """Add a delivery for each webhook of the caller, in the transaction that ends the task."""
        given = {
            "subject": subject,
            "task_id": task_id,
            "message_id": f"msg_{request_id}",
            "state": state,
            "backlog": BACKLOG,
        }
        await connection.execute(ADD, given)

    async def claim(self, hosts: Iterable[str], subjects: Iterable[str]) -> Delivery | None:
        """Lease the next due delivery that is not for one of ``hosts`` or ``subjects``."""
        rows = await self._database.run(
            CLAIM, {"hosts": list(hosts), "subjects": list(subjects), "lease": LEASE}
        )
        return Delivery(**rows[0]._asdict()) if rows else None

    async def succeed(self, delivery: Delivery) -> None:
        """Record a success and delete the delivery."""
        values: dict[str, Any] = {"delivered": func.now(), "failures": 0, "paused_until": None}
        if delivery.task_id is None:
            values = {"verified": func.now(), "failures": 0, "paused_until": None, "problem": None}
        async with self._database.transaction() as connection:
            await connection.execute(
                update(webhooks)
                .where(webhooks.c.webhook_id == delivery.webhook_id)
                .values(**values)
            )
            await connection.execute(delete(deliveries).where(*_is(delivery)))

    async def fail(
        self, delivery: Delivery, problem: str, *, again: timedelta | None, most: int
    ) -> bool:
        """Record a failure; return True when the webhook is now disabled.

        The delivery is retried after ``again``, or deleted when it is None. ``most`` consecutive
        failures or a challenge without a further attempt disable the webhook.
        """
        permanent = again is None and delivery.task_id is None
        given = {
            "webhook_id": delivery.webhook_id,
            "problem": problem,
            "most": most,
            "permanent": permanent,
        }
        async with self._database.transaction() as connection:
            row = (
                await connection.execute(
                    FAIL, {**given, "breaker": BREAKER, "longest": LONGEST_PAUSE}
                )
            ).first()
            if row is None:  # deleted meanwhile
                return False
            if row.disabled:
                await connection.execute(
                    delete(deliveries).where(deliveries.c.webhook_id == delivery.webhook_id)
                )
            elif again is None:
                await connection.execute(delete(deliveries).where(*_is(delivery)))
            else:
                values = {"attempts": delivery.attempts + 1, "due": datetime.now(UTC) + again}
                await connection.execute(update(deliveries).where(*_is(delivery)).values(**values))
            return bool(row.disabled)


def _is(delivery: Delivery) -> tuple[Any, Any]:
    return (
        deliveries.c.webhook_id == delivery.webhook_id,
        deliveries.c.message_id == delivery.message_id,
    )
