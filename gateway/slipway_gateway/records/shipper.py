"""Takes events from the spool to the event log: in batches, each at least once, and there each exactly once."""

import asyncio
import logging

from slipway_gateway.postgresql.database import Away, Unacceptable
from slipway_gateway.records.eventlog import EventLog
from slipway_gateway.records.spool import Segment, Spool
from slipway_gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

LONGEST_PAUSE = 10.0


class Shipper:
    """A segment is deleted only after the commit; whoever dies in between causes a repetition, which changes nothing."""

    def __init__(self, spool: Spool, events: EventLog, metrics: Metrics, *, seconds: float) -> None:
        self._spool = spool
        self._events = events
        self._metrics = metrics
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self.problem: str | None = None
        """Why the last shipment failed; None after a good one."""

    async def run(self) -> None:
        """Ship now and then, for ever; less often while the database is away."""
        pause = self._seconds
        while True:
            await asyncio.sleep(pause)
            try:
                await self.flush()
                pause = self._seconds
            except Away:
                pause = min(2 * pause, LONGEST_PAUSE)

    async def flush(self) -> None:
        """Ship all that was written before this call. Raises Away."""
        async with self._lock:
            self._spool.rotate()
            try:
                for segment in self._spool.claim():
                    await self._ship(segment)
            except Away as error:
                if self.problem is None:
                    log.warning("events wait on disk, the database is away: %s", error.cause)
                self.problem = error.cause
                raise
            if self.problem is not None:
                log.info("the database is back")
            self.problem = None

    async def _ship(self, segment: Segment) -> None:
        for lines in segment.batches():
            await self._send(segment, lines)
        self._spool.drop(segment)

    async def _send(self, segment: Segment, lines: list[bytes]) -> None:
        """All lines, or by halves down to the one that the database cannot take."""
        try:
            await self._events.ship(lines)
            self._metrics.shipped.inc(len(lines))
        except Unacceptable as error:
            if len(lines) == 1:
                log.error("an event is set aside, the database refuses it: %s", error)  # noqa: TRY400
                self._spool.set_aside(segment, lines[0])
                self._metrics.rejected.inc()
                return
            middle = len(lines) // 2
            await self._send(segment, lines[:middle])
            await self._send(segment, lines[middle:])
