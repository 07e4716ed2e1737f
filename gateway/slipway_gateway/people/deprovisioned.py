"""Erasure of users whose accounts were deleted directly at the identity provider.

Only accounts that the provider once listed can be missing: service accounts and users of another
issuer are never listed. Replicas share the list of known accounts in PostgreSQL.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import Conflict, NotFound, Unavailable
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.identity import subjects
from slipway_gateway.people.scim import Scim
from slipway_gateway.postgresql.database import MAINTENANCE_SECONDS, Database
from slipway_gateway.postgresql.tables import audit, known_accounts
from slipway_gateway.requestid import new_id

log = logging.getLogger(__name__)

LOOKS = 3
"""Number of comparisons in the time for which an account must be missing."""
SHARE = 10
"""Erasure is suspended when more than one of so many accounts is missing, and more than one account
in all: then the provider has probably lost or changed its database.
"""
ACTOR = ":gateway"
"""The subject of audit entries about erasures."""

ALONE = text("LOCK TABLE known_accounts IN SHARE ROW EXCLUSIVE MODE")
SEE = text("""
INSERT INTO known_accounts (subject) SELECT name FROM unnest(CAST(:names AS text[])) AS name
WHERE NOT EXISTS (SELECT FROM deprovisioned WHERE deprovisioned.subject = name
  AND deprovisioned.until > now())
ON CONFLICT (subject) DO UPDATE SET missing = NULL WHERE known_accounts.missing IS NOT NULL
""")
"""Users whose erasure has just started are left out, because the list may be older."""
MISS = text(
    "UPDATE known_accounts SET missing = now() WHERE missing IS NULL AND subject <> "
    "ALL(CAST(:names AS text[]))"
)


class DeprovisionedUsers:
    """A periodic comparison of known accounts with the provider's users.

    An account's name is erased when the account has been missing for ``seconds``.
    """

    def __init__(self, database: Database, scim: Scim, *, seconds: float) -> None:
        self._database = database
        self._scim = scim
        self._seconds = seconds
        self._held = 0

    async def keep(self) -> None:
        """Compare periodically until cancelled."""
        while True:
            # Without the provider's list no account counts as missing; accounts.py has the reason.
            with suppress(Unavailable, NotFound, Conflict):
                await self.once()
            await asyncio.sleep(self._seconds / LOOKS)

    async def once(self) -> None:
        """Compare once and erase users who have been missing long enough.

        Raises the errors of the SCIM client and DatabaseUnavailable.
        """
        users = [
            str(user.get("userName") or "")
            async for user in self._scim.all("Users", "userName", whole=True)
        ]
        if "" in users:
            raise Unavailable(
                "the identity provider has a user without a userName: missing accounts cannot "
                "be identified"
            )
        names = [subjects.user(user) for user in users]
        async with self._database.transaction(seconds=MAINTENANCE_SECONDS) as connection:
            await connection.execute(ALONE)
            await connection.execute(SEE, {"names": names})
            await connection.execute(MISS, {"names": names})
            for subject in await self._gone(connection):
                entry = {
                    "subject": ACTOR,
                    "request_id": new_id(),
                    "action": "user.deprovision",
                    "thing": f"users/{subjects.name_of(subject)}",
                }
                await connection.execute(insert(audit).values(entry))
                await erase(connection, subject)

    async def _gone(self, connection: AsyncConnection) -> list[str]:
        """Return the subjects to erase; none while too many accounts are missing."""
        counts = select(func.count(), func.count(known_accounts.c.missing))
        known, missing = (await connection.execute(counts)).one()
        held = missing if missing > max(1, known // SHARE) else 0
        if held and held != self._held:
            log.error(
                "%d of %d accounts are missing at the identity provider: none is erased "
                "until an admin deletes them",
                held,
                known,
            )
        self._held = held
        long_ago = func.now() - timedelta(seconds=self._seconds)
        query = select(known_accounts.c.subject).where(known_accounts.c.missing <= long_ago)
        return [] if held else list((await connection.execute(query)).scalars())


async def is_missed(database: Database, subject: str) -> bool:
    """Return True when the subject's account is missing at the provider.

    Raises DatabaseUnavailable.
    """
    mine = known_accounts.c.subject == subject
    return bool(
        await database.run(
            select(known_accounts).where(mine, known_accounts.c.missing.is_not(None))
        )
    )
