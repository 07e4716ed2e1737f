"""Erasure of a user's name from predictions and labels.

A random pseudonym replaces the name; it cannot be derived from the name. The pair of name and
pseudonym is stored for some days, because spools and other replicas may deliver events of the user
until then. Afterwards the pseudonym cannot be resolved.
"""

import asyncio
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.identity.subjects import ERASED
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
    version_promotions,
    webhooks,
)

RENAMED = (prediction_events, feedback, images, version_promotions)
"""Tables whose rows get the pseudonym, like those of ``usage``. The audit contains names by purpose
and does not change.
"""
DELETED = (quota_leases, tasks, webhooks, batches, prediction_images, known_accounts, storage)
"""Tables whose rows are deleted. ``storage`` is last, because triggers of the others change it."""
LAPSING = (rate_levels,)
"""Tables whose rows expire within ten minutes."""

MOVE_USAGE = text("""
WITH moved AS (DELETE FROM usage WHERE subject = :subject RETURNING policy, day, requests)
INSERT INTO usage (subject, policy, day, requests) SELECT :pseudonym, policy, day, requests
  FROM moved
ON CONFLICT (subject, policy, day) DO UPDATE SET requests = usage.requests + excluded.requests
""")

LATE = timedelta(minutes=5)
"""Time in which a replica may still accept a token of the user, see accounts.py."""
KEPT = timedelta(days=7)
HOUR = 3600.0


async def erase(connection: AsyncConnection, subject: str) -> None:
    """Replace a subject (``user:ada``) by a pseudonym, and delete its comments and grants."""
    values = {
        "subject": subject,
        "pseudonym": f"{ERASED}{secrets.token_hex(8)}",
        "until": datetime.now(UTC) + LATE,
    }
    statement = insert(deprovisioned).values(values)
    # A repeated erasure covers later rows and uses the first pseudonym.
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
    """A periodic task that completes erasures.

    It pseudonymizes rows that were written during an erasure, and deletes expired pairs of name and
    pseudonym.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self) -> None:
        """Clean up every hour until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the next run makes up for it
                await self.once()
            await asyncio.sleep(HOUR)

    async def once(self) -> None:
        """Clean up once. Raises DatabaseUnavailable."""
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
