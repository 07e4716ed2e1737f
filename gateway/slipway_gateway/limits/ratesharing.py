"""Tells the other replicas what was taken from the buckets here, and learns what they took: once a
second, by one statement.
"""

import asyncio
import logging

from sqlalchemy import text

from slipway_gateway.limits.rates import Rates
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)

SECONDS = 1.0
FORGET_EVERY = 30
"""Rounds."""

# A row is a bucket. What arrives is a bucket that was full but for what was taken; what is there
# has filled since.
SHARE = text("""
INSERT INTO rate_levels AS known (subject, bucket, per_minute, level, at)
SELECT subject, bucket, per_minute, per_minute - spent, now()
FROM unnest(CAST(:subjects AS text[]), CAST(:buckets AS text[]), CAST(:rates AS int[]),
CAST(:spent AS int[]))
     AS taken (subject, bucket, per_minute, spent)
ORDER BY subject, bucket
ON CONFLICT (subject, bucket) DO UPDATE SET
    per_minute = excluded.per_minute,
    level = greatest(-excluded.per_minute, excluded.level - excluded.per_minute + least(
        excluded.per_minute,
        known.level + greatest(0, extract(epoch
          FROM now() - known.at)) * excluded.per_minute / 60)),
    at = greatest(known.at, now())
RETURNING subject, bucket, level
""")
FORGET = text("DELETE FROM rate_levels WHERE at < now() - interval '10 minutes'")


class RateSharing:
    """A caller who goes to two replicas at once may take twice a bucket in the first second, and
    then waits the longer: what was taken is never forgotten. While PostgreSQL is away each replica
    goes by its own buckets.
    """

    def __init__(self, database: Database, rates: Rates) -> None:
        self._database = database
        self._rates = rates
        self._away = False

    async def keep(self) -> None:
        """For ever."""
        rounds = 0
        while True:
            await asyncio.sleep(SECONDS)
            rounds += 1
            try:
                await self.share()
                if rounds % FORGET_EVERY == 0:
                    self._rates.forget()
                    await self._database.run(FORGET)
                self._away = False
            except DatabaseUnavailable as error:
                if not self._away:
                    log.warning(
                        "rates hold for each replica alone, the database is away: %s", error.cause
                    )
                self._away = True

    async def share(self) -> None:
        """Raises DatabaseUnavailable."""
        told = {key: (bucket.per_minute, bucket.spent) for key, bucket in self._rates.spent()}
        if not told:
            return
        rows = await self._database.run(
            SHARE,
            {
                "subjects": [subject for subject, _ in told],
                "buckets": [bucket for _, bucket in told],
                "rates": [per_minute for per_minute, _ in told.values()],
                "spent": [spent for _, spent in told.values()],
            },
        )
        for row in rows:
            self._rates.learn(
                (row.subject, row.bucket), row.level, told[row.subject, row.bucket][1]
            )
