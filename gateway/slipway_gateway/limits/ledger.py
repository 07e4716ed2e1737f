"""The ledger of predictions by subject, policy and UTC day, and the quota leases of gateways.

The remainder of a quota is its limit minus the ledger minus the leases. A shipment of events moves
their requests from leases to the ledger in one transaction, so the remainder does not change and no
request is counted twice.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

from sqlalchemy import Row, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.limits.policy import Policy
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import usage
from slipway_gateway.requestid import new_id

Day = TypeVar("Day", bound=date)
"""A date, or a time."""

LARGEST = 1000
"""Maximum number of requests of a lease."""
SHARE = 10
"""A lease is at most one in SHARE of the remainder; near its end a lease has one request."""

# The statement follows the insertion of events as `shipped`. Server errors are not counted.
TALLY = """
counted AS (
    SELECT shipped.subject, shipped.policy, shipped.lease, coalesce(held.day,
    (shipped.time AT TIME ZONE 'UTC')::date) AS day
    FROM shipped LEFT JOIN quota_leases held ON held.lease_id = shipped.lease
    WHERE shipped.policy IS NOT NULL AND shipped.status < 500
), tallied AS (
    INSERT INTO usage (subject, policy, day, requests)
    SELECT subject, policy, day, count(*) FROM counted GROUP BY subject, policy, day
      ORDER BY subject, policy, day
    ON CONFLICT (subject, policy, day) DO UPDATE SET requests = usage.requests + excluded.requests
)
UPDATE quota_leases SET held = held - spent.requests
FROM (SELECT lease, count(*) AS requests FROM counted GROUP BY lease) AS spent
  WHERE lease_id = spent.lease
"""

TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:subject || ' ' || :policy, 0))")
# A lease expires after an hour here and after ten minutes in the gateway, because events of its
# requests may wait in the spool.
ROOM = """
WITH month AS (
    SELECT date_trunc('month', CAST(:day AS date))::date AS first,
           (date_trunc('month', CAST(:day AS date)) + interval '1 month')::date AS next
), spent AS (
    SELECT coalesce(sum(requests), 0) AS month, coalesce(sum(requests)
      FILTER (WHERE day = :day), 0) AS day
    FROM usage, month WHERE subject = :subject AND policy = :policy AND day >= first AND day < next
), held AS (
    SELECT coalesce(sum(held), 0) AS month, coalesce(sum(held) FILTER (WHERE day = :day), 0) AS day
    FROM quota_leases, month
    WHERE subject = :subject AND policy = :policy AND day >= first AND day < next
      AND expires > now()
), room AS (
    SELECT CAST(:per_day AS bigint) - spent.day - held.day AS day,
    CAST(:per_month AS bigint) - spent.month - held.month AS month,
           held.month AS held
    FROM spent, held
)
"""
LEASE = text(
    ROOM  # noqa: S608  (a constant)
    + """, gone AS (
    DELETE FROM quota_leases WHERE subject = :subject AND policy = :policy AND (held <= 0
      OR expires <= now())
), lease AS (
    INSERT INTO quota_leases (lease_id, subject, policy, day, held, expires)
    SELECT :lease_id, :subject, :policy, :day,
    greatest(1, least(:largest, least(day, month) / :share)), now() + interval '1 hour'
    FROM room WHERE least(day, month) > 0
    RETURNING held
)
SELECT day, month, room.held, lease.held AS leased FROM room LEFT JOIN lease ON true
"""
)
CHARGE = text(
    ROOM  # noqa: S608  (a constant)
    + """, charged AS (
    INSERT INTO usage (subject, policy, day, requests)
    SELECT :subject, :policy, :day, :requests FROM room WHERE least(day, month) >= :requests
    ON CONFLICT (subject, policy, day) DO UPDATE SET requests = usage.requests + excluded.requests
    RETURNING requests
)
SELECT room.day, room.month, room.held, charged.requests AS charged FROM room LEFT
  JOIN charged ON true
"""
)
GIVE_BACK = text("""
UPDATE quota_leases SET held = held - unspent.requests
FROM unnest(CAST(:leases AS text[]), CAST(:requests AS bigint[])) AS unspent (lease_id, requests)
WHERE quota_leases.lease_id = unspent.lease_id
""")


@dataclass(frozen=True, slots=True)
class Lease:
    """A number of requests that one gateway may allow without the database."""

    lease_id: str
    requests: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The period with an exhausted quota; ``held``: other gateways hold unspent leases of it."""

    period: str
    held: bool
    left: int = 0


class Ledger:
    """The ledger in PostgreSQL. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lease(self, subject: str, policy: Policy, day: date) -> Lease | Exhausted:
        """Take a lease of the remainder on this day, serialized between gateways."""
        given = {"subject": subject, "policy": policy.name}
        lease_id = new_id()
        terms = {
            "per_day": policy.requests_per_day,
            "per_month": policy.requests_per_month,
            "day": day,
        }
        async with self._database.transaction() as connection:
            await connection.execute(TURN, given)
            result = await connection.execute(
                LEASE, {**given, **terms, "lease_id": lease_id, "largest": LARGEST, "share": SHARE}
            )
            row = result.one()
        if row.leased is not None:
            return Lease(lease_id, row.leased)
        return _exhausted(row, 1)

    async def charge(
        self, connection: AsyncConnection, subject: str, policy: Policy, day: date, requests: int
    ) -> Exhausted | None:
        """Charge all requests or none in the given transaction; return None on success."""
        given = {"subject": subject, "policy": policy.name}
        terms = {
            "per_day": policy.requests_per_day,
            "per_month": policy.requests_per_month,
            "day": day,
        }
        await connection.execute(TURN, given)
        row = (await connection.execute(CHARGE, {**given, **terms, "requests": requests})).one()
        return None if row.charged is not None else _exhausted(row, requests)

    async def give_back(self, unspent: dict[str, int]) -> None:
        """Return unspent requests, by lease id."""
        await self._database.run(
            GIVE_BACK, {"leases": list(unspent), "requests": list(unspent.values())}
        )

    async def usage(self, subject: str, first: date, last: date) -> list[Row[Any]]:
        """Return the ledger rows of a subject, sorted by day and policy."""
        query = select(usage).where(usage.c.subject == subject, usage.c.day.between(first, last))
        return await self._database.run(query.order_by(usage.c.day, usage.c.policy))

    async def used(
        self, subject: str, policies: list[str], day: date
    ) -> dict[tuple[str, str], int]:
        """Return the requests of the ``day`` and of its month, by policy and period."""
        month, after = month_of(day)
        on_day = func.coalesce(func.sum(usage.c.requests).filter(usage.c.day == day), 0)
        query = (
            select(usage.c.policy, func.sum(usage.c.requests).label("month"), on_day.label("day"))
            .where(
                usage.c.subject == subject,
                usage.c.policy.in_(policies),
                usage.c.day >= month,
                usage.c.day < after,
            )
            .group_by(usage.c.policy)
        )
        rows = await self._database.run(query)
        return {
            (row.policy, period): int(getattr(row, period))
            for row in rows
            for period in ("day", "month")
        }


def month_of(day: Day) -> tuple[Day, Day]:
    """Return the beginning of the month and of the next one, at the time of ``day``."""
    begin = day.replace(day=1)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def _exhausted(row: Row[Any], requests: int) -> Exhausted:
    """Return the exhausted period; the month has precedence, because it ends later."""
    period = "month" if row.month is not None and row.month < requests else "day"
    return Exhausted(period, row.held > 0, max(0, getattr(row, period)))
