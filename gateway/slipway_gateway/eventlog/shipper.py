"""Batch delivery of events from the spool to the event log.

Delivery is at least once; the insert is idempotent, so that the log has each event exactly once.
"""

import asyncio
import logging
import time

from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.spool import Segment, Spool
from slipway_gateway.postgresql.database import ConstraintViolation, DatabaseUnavailable
from slipway_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LONGEST_PAUSE = 10.0
RETRY_SECONDS = 1.0
"""Pause between two attempts during shutdown."""


class Shipper:
    """The background task that ships segments.

    It deletes a segment after the commit; a crash in between only repeats an idempotent insert.
    """

    def __init__(self, spool: Spool, events: EventLog, metrics: Metrics, *, seconds: float) -> None:
        self._spool = spool
        self._events = events
        self._metrics = metrics
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._failed_at = float("-inf")
        self.problem: str | None = None
        """Error of the last shipment; None after a success."""

    async def run(self) -> None:
        """Ship periodically until cancelled, with backoff while the database is unavailable."""
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await self.flush()
                pause = self._seconds
            except DatabaseUnavailable:
                pause = min(2 * pause, LONGEST_PAUSE)

    async def finish(self, until: float) -> int:
        """Ship until the spool is empty or ``until``; return the number of remaining bytes.

        ``until`` is a time of the monotonic clock. A failed shipment is retried.
        """
        while (seconds := until - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self.flush()
                    return 0
            except (DatabaseUnavailable, TimeoutError):
                await asyncio.sleep(max(0.0, min(RETRY_SECONDS, until - time.monotonic())))
        return self._spool.size

    async def flush(self) -> None:
        """Ship all that was written before this call. Raises DatabaseUnavailable."""
        called_at = time.monotonic()
        async with self._lock:
            # Callers that waited for the same failure fail together instead of one by one.
            if self._failed_at > called_at:
                raise DatabaseUnavailable(OSError(self.problem))
            self._spool.rotate()
            try:
                for segment in self._spool.claim():
                    try:
                        await self._ship(segment)
                    except OSError as error:  # of the disk
                        self._spool.leave(segment.path, error)
            except DatabaseUnavailable as error:
                if self.problem is None:
                    log.warning("events wait on disk, the database is unavailable: %s", error.cause)
                self.problem, self._failed_at = error.cause, time.monotonic()
                raise
            if self.problem is not None:
                log.info("the database is available again")
            self.problem = None

    async def _ship(self, segment: Segment) -> None:
        for lines in segment.batches():
            await self._send(segment, lines)
        self._spool.drop(segment)

    async def _send(self, segment: Segment, lines: list[bytes]) -> None:
        """Insert all lines; bisect a rejected batch to set aside only the invalid lines."""
        try:
            await self._events.ship(lines)
            self._metrics.shipped.inc(len(lines))
        except ConstraintViolation as error:
            if len(lines) == 1:
                log.error("an event is set aside, the database rejects it: %s", error)  # noqa: TRY400
                self._spool.set_aside(segment, lines[0])
                self._metrics.rejected.inc()
                return
            middle = len(lines) // 2
            await self._send(segment, lines[:middle])
            await self._send(segment, lines[middle:])
