"""Synchronization of rate buckets between replicas through PostgreSQL, once a second."""

import asyncio
import logging

from sqlalchemy import text

from slipway_gateway.limits.rates import Rates
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable

log = logging.getLogger(__name__)

SECONDS = 1.0
REMOVE_EVERY = 30
"""Number of synchronizations between two removals of full buckets."""

# A row is a bucket. The inserted level is a full bucket minus the tokens taken; the stored level
# has been refilled since its last update.
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
REMOVE = text("DELETE FROM rate_levels WHERE at < now() - interval '10 minutes'")


class RateSharing:
    """Synchronizes the buckets of this process.

    A caller of two replicas may take twice the capacity in the first second; the level is then
    negative and delays the following requests. While PostgreSQL is unavailable, each replica uses
    its local buckets.
    """

    def __init__(self, database: Database, rates: Rates) -> None:
        self._database = database
        self._rates = rates
        self._is_unavailable = False

    async def keep(self) -> None:
        """Synchronize once a second until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(SECONDS)
            rounds += 1
            try:
                await self.share()
                if rounds % REMOVE_EVERY == 0:
                    self._rates.remove_full()
                    await self._database.run(REMOVE)
                self._is_unavailable = False
            except DatabaseUnavailable as error:
                if not self._is_unavailable:
                    log.warning(
                        "rate limits apply to each replica separately, PostgreSQL is unavailable: "
                        "%s",
                        error.cause,
                    )
                self._is_unavailable = True

    async def share(self) -> None:
        """Synchronize the buckets with one statement. Raises DatabaseUnavailable."""
        taken = {key: (bucket.per_minute, bucket.spent) for key, bucket in self._rates.spent()}
        if not taken:
            return
        rows = await self._database.run(
            SHARE,
            {
                "subjects": [subject for subject, _ in taken],
                "buckets": [bucket for _, bucket in taken],
                "rates": [per_minute for per_minute, _ in taken.values()],
                "spent": [spent for _, spent in taken.values()],
            },
        )
        for row in rows:
            key = (row.subject, row.bucket)
            self._rates.synchronize(key, row.level, taken[key][1])
