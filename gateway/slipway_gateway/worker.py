"""``python -m slipway_gateway work``: a worker that executes tasks and delivers webhooks.

Any number of workers may run; another worker takes the tasks of one that fails.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from prometheus_client import start_http_server
from slipway_cluster.interface import Cluster

from slipway_gateway import build
from slipway_gateway.access.rules import AccessTable
from slipway_gateway.edge.task_executor import EventBuffer, TaskExecutor
from slipway_gateway.errors import Unavailable
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.jobs.batchstore import BatchStore
from slipway_gateway.postgresql.database import ConstraintViolation
from slipway_gateway.postgresql.queue import PREDICTIONS, RetryLater
from slipway_gateway.settings import Settings
from slipway_gateway.tasks.deliverer import Deliverer
from slipway_gateway.tasks.deliveries import Deliveries
from slipway_gateway.tasks.task import Outcome, TaskState

log = logging.getLogger(__name__)

LONGEST_BACKOFF = 300.0
GRACE = timedelta(seconds=60)


class Worker:
    """The data plane without its server and without the control plane, for stored tasks."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        buffer = EventBuffer()
        self._base = base = build.infrastructure(settings, cluster)
        self._events = build.event_log(base)
        self._data = data = build.inference(base, self._events, sink=buffer)
        rows = data.rows.router()
        self._executor = TaskExecutor(
            build.dispatch(base, data, build.api(settings, [rows])),
            AccessTable([*data.v2.rules, *rows.rules]),
            buffer,
            base.metrics,
        )
        self._batches = BatchStore(base.database, base.storage)
        self._deliverer = Deliverer(
            Deliveries(base.database),
            Outbound(settings.webhook_hosts),
            slots=settings.webhook_concurrency,
            attempts=settings.webhook_attempts,
            failures=settings.webhook_failures,
        )
        self._queue = base.queue
        self._store = base.tasks
        self._heartbeat = timedelta(seconds=settings.task_heartbeat_seconds)
        # Longer than any attempt: the predictor's timeout, that of a retry on another pod, and the
        # processing before and after.
        self._lease = timedelta(seconds=2 * settings.upstream_timeout_seconds) + GRACE
        self._queue.handle(PREDICTIONS, self.predict)

    async def run(self) -> None:
        """Execute tasks and deliver webhooks until SIGTERM or SIGINT."""
        server, _ = start_http_server(
            self._settings.gateway_metrics_port,
            self._settings.gateway_host,
            self._base.metrics.registry,
        )
        log.info("worker started, metrics on %d", server.server_port)
        try:
            async with self._data.watching(), self._queue.opened():
                await self._data.routes.wait()  # without Models every attempt would fail
                background = [
                    asyncio.create_task(self._sweep()),
                    asyncio.create_task(self._deliverer.run()),
                ]
                try:
                    await self._queue.work(
                        concurrency=self._settings.task_concurrency, heartbeat=self._heartbeat
                    )
                finally:
                    for task in background:
                        task.cancel()
                    await asyncio.gather(*background, return_exceptions=True)
        finally:
            self._events.spool.close()
            await self._data.close()
            await self._base.close()
            server.shutdown()

    async def predict(self, _: int, *, task_id: str) -> None:
        """Make one attempt of a task and store its outcome. Raises RetryLater for another one."""
        task = await self._store.start(task_id, self._lease)
        if task is None:
            return
        outcome = await self._executor.answer(task)
        log.info(
            "task %s of model %s, attempt %d: status %d",
            task_id,
            task.model,
            task.attempts + 1,
            outcome.status,
        )
        state = outcome.state or (
            TaskState.DEAD if task.attempts + 1 >= self._settings.task_attempts else None
        )
        if state is None:
            seconds = min(self._settings.task_backoff_seconds * 2.0**task.attempts, LONGEST_BACKOFF)
            error = outcome.body.decode("utf-8", "replace").replace("\0", "\ufffd")[:500]
            if await self._store.put_back(task, seconds, error):
                raise RetryLater(seconds)
            return
        if state is TaskState.DEAD:
            log.warning(
                "task %s of model %s is dead after %d attempts",
                task.task_id,
                task.model,
                task.attempts + 1,
            )
        try:
            await self._store.finish(task, state, outcome)
        except ConstraintViolation as violation:
            # A response that cannot be logged is not returned, and each attempt would fail alike.
            log.error("task %s is dead, PostgreSQL rejects its event: %s", task.task_id, violation)  # noqa: TRY400
            self._base.metrics.rejected.inc()
            await self._store.finish(
                task, TaskState.DEAD, Outcome(500, [], b"the prediction cannot be logged", None)
            )

    async def _sweep(self) -> None:
        """Requeue the jobs of failed workers at every heartbeat until cancelled.

        An unavailable database ends the worker, because its heartbeats fail.
        """
        while True:
            await asyncio.sleep(self._heartbeat.total_seconds())
            try:
                await self._batches.sweep()
                if rescued := await self._queue.rescue(self._heartbeat) + await self._store.sweep(
                    GRACE
                ):
                    log.info("%d jobs of failed workers are queued again", rescued)
            except Unavailable as error:
                log.warning("the jobs of failed workers cannot be queued again: %s", error)
            except Exception:  # the task's edge: the next heartbeat tries again
                log.exception("the jobs of failed workers cannot be queued again")


def work(settings: Settings, cluster: Cluster) -> None:
    """Run one worker in this process until SIGTERM or SIGINT."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    with suppress(KeyboardInterrupt):
        asyncio.run(Worker(settings, cluster).run())
