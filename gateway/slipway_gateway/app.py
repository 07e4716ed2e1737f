"""The gateway as an ASGI application with its lifespan."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from slipway_cluster.interface import Cluster

from slipway_gateway import build
from slipway_gateway.access.route import Api
from slipway_gateway.edge.drain import DrainState
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.http.connection import Connection
from slipway_gateway.postgresql.database import DatabaseUnavailable
from slipway_gateway.settings import Settings
from slipway_gateway.telemetry.tracing import Application, Traced
from slipway_gateway.telemetry.tracing import wanted as tracing_wanted

log = logging.getLogger(__name__)

SHORTEST_SHIPMENT_SECONDS = 5.0
CLOSING_SECONDS = 12.0
"""Part of the grace period for a shipment that waits for PostgreSQL and for closing connections."""
RESTART_SECONDS = 2.0


class Gateway:
    """The planes of one gateway. ``application`` is the ASGI application with their lifespan."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.settings = settings
        self.ends_at: float | None = None
        """Monotonic time of SIGKILL; None before SIGTERM."""
        self.drain = DrainState()
        self.base = base = build.infrastructure(settings, cluster)
        self.metrics = base.metrics
        self.access = access = build.access(base)
        self.events = events = build.event_log(base)
        self.data = data = build.inference(base, events)
        self.bodies = BodyBudget(settings.body_budget, settings.body_budget_per_caller)
        self.metrics.watch(
            "slipway_body_bytes", "Bytes of request bodies in memory", lambda: self.bodies.used
        )
        self.api, self.table = build.planes(base, events, data, access, self._lifespan)
        edge = build.edge(base, data, access, self.api, self.table, self.bodies, self.drain)
        self.traced = Traced(edge) if tracing_wanted() else None
        self.application: Application = self.traced or edge

    @asynccontextmanager
    async def _lifespan(self, _: Api) -> AsyncIterator[None]:
        work = build.background(self.base, self.events, self.data, self.access)
        tasks = [asyncio.create_task(_supervised(each)) for each in work]
        try:
            async with self.data.watching():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(DatabaseUnavailable, TimeoutError):
                await asyncio.wait_for(self.access.quotas.close(), SHORTEST_SHIPMENT_SECONDS)
            await self._ship_remaining()
            await self.close()

    async def _ship_remaining(self) -> None:
        """Ship the events in the spool until shortly before the end of the grace period.

        The next process with this folder ships the remaining events.
        """
        now = time.monotonic()
        ends_at = now + self.settings.grace_seconds if self.ends_at is None else self.ends_at
        until = max(ends_at - CLOSING_SECONDS, now + SHORTEST_SHIPMENT_SECONDS)
        if left := await self.events.shipper.finish(until):
            log.error(
                "%d bytes of events remain in %s at the end of the grace period of %g s, and are "
                "lost if the folder is deleted with the pod; PostgreSQL: %s",
                left,
                self.settings.spool,
                self.settings.grace_seconds,
                self.events.shipper.problem or "too slow",
            )

    def connection(self, *arguments: Any, **named: Any) -> Connection:
        """Return the protocol of a client connection, for uvicorn."""
        return Connection(
            *arguments,
            limits=self.settings.limits,
            bodies=self.bodies,
            refused=self.metrics.refused,
            **named,
        )

    async def close(self) -> None:
        """Close files and connections."""
        self.events.spool.close()
        await self.data.close()
        await self.base.close()
        if self.traced:
            await asyncio.to_thread(self.traced.close)


async def _supervised(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until cancelled; log an unexpected error and restart the work."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; restarting in %g s", work.__qualname__, RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)
