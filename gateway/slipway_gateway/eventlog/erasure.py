"""What remains of someone who has left: predictions and labels without a name.

The pseudonym is random, not made from the name, so nobody can make it again from a guess. The pair
of name and pseudonym is kept for some days, because spools and other replicas may bring events of
theirs until then; afterwards nothing leads back.
"""

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.identity.subjects import DEPARTED
from slipway_gateway.postgresql.database import MAINTENANCE_SECONDS, Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import (
    batches,
    deprovisioned,
    feedback,
    grants,
    images,
    known_accounts,
    prediction_events,
    prediction_images,
    quota_leases,
    rate_levels,
    storage,
    tasks,
    webhooks,
)

RENAMED = (prediction_events, feedback, images)
"""Tables whose rows stay, under the pseudonym. So do those of ``usage``; the audit keeps its names,
because it is for that.
"""
DELETED = (quota_leases, tasks, webhooks, batches, prediction_images, known_accounts, storage)
"""Tables whose rows are of no use to anybody else. The counters of storage are last: the other rows
change them.
"""
LAPSING = (rate_levels,)
"""Tables whose rows are gone in ten minutes by themselves."""

MOVE_USAGE = text("""
WITH moved AS (DELETE FROM usage WHERE subject = :subject RETURNING policy, day, requests)
INSERT INTO usage (subject, policy, day, requests) SELECT :pseudonym, policy, day, requests
  FROM moved
ON CONFLICT (subject, policy, day) DO UPDATE SET requests = usage.requests + excluded.requests
""")

LATE = timedelta(minutes=5)
"""For so long a token may still be taken somewhere, see accounts.py."""
KEPT = timedelta(days=7)
HOUR = 3600.0


async def erase(connection: AsyncConnection, subject: str) -> None:
    """Take the name of a person (``user:ada``) from predictions and feedback, what they wrote from
    comments, and their grants.
    """
    values = {
        "subject": subject,
        "pseudonym": f"{DEPARTED}{secrets.token_hex(8)}",
        "until": datetime.now(UTC) + LATE,
    }
    statement = insert(deprovisioned).values(values)
    # A second time, for what came meanwhile, under the pseudonym of the first.
    again = statement.on_conflict_do_update(
        index_elements=["subject"], set_={"until": statement.excluded.until}
    )
    pseudonym = (await connection.execute(again.returning(deprovisioned.c.pseudonym))).scalar_one()
    await connection.execute(
        update(feedback).where(feedback.c.subject == subject).values(comment=None)
    )
    for table in RENAMED:
        await connection.execute(
            update(table).where(table.c.subject == subject).values(subject=pseudonym)
        )
    for table in DELETED:
        await connection.execute(delete(table).where(table.c.subject == subject))
    await connection.execute(MOVE_USAGE, {"subject": subject, "pseudonym": pseudonym})
    await connection.execute(delete(grants).where(grants.c.grantee == subject))


class PseudonymCleanup:
    """Renames what was written in the very moment of leaving, and deletes the pairs of name and
    pseudonym whose time is over.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self) -> None:
        """For ever."""
        while True:
            with suppress(DatabaseUnavailable):  # the next hour will do
                await self.once()
            await asyncio.sleep(HOUR)

    async def once(self) -> None:
        """Raises DatabaseUnavailable."""
        async with self._database.transaction(seconds=MAINTENANCE_SECONDS) as connection:
            for table in RENAMED:
                theirs = (table.c.subject == deprovisioned.c.subject) & (
                    table.c.time <= deprovisioned.c.until
                )
                comment = {"comment": None} if "comment" in table.c else {}
                await connection.execute(
                    update(table).where(theirs).values(subject=deprovisioned.c.pseudonym, **comment)
                )
            await connection.execute(
                delete(deprovisioned).where(deprovisioned.c.until < datetime.now(UTC) - KEPT)
            )
