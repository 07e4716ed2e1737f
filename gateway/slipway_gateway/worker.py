"""``python -m slipway_gateway work``: answers tasks and tells of their ends. Any number of workers
may run, and any may die.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta

from prometheus_client import start_http_server
from slipway_cluster.interface import Cluster

from slipway_gateway.app import Gateway
from slipway_gateway.edge.task_executor import EventBuffer, TaskExecutor
from slipway_gateway.errors import Unavailable
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.postgresql.database import ConstraintViolation
from slipway_gateway.postgresql.queue import PREDICTIONS, Queue, RetryLater
from slipway_gateway.settings import Settings
from slipway_gateway.tasks.deliverer import Deliverer
from slipway_gateway.tasks.deliveries import Deliveries
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.tasks.task import Outcome, TaskState

log = logging.getLogger(__name__)

LONGEST_BACKOFF = 300.0
GRACE = timedelta(seconds=60)


class Worker:
    """A gateway without its doors: the same routes, predictors and answers."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._notes = EventBuffer()
        self._gateway = Gateway(settings, cluster, event_sink=self._notes)
        self._replay = TaskExecutor(self._gateway.edge, self._notes)
        self._deliverer = Deliverer(
            Deliveries(self._gateway.database),
            Outbound(settings.webhook_hosts),
            slots=settings.webhook_concurrency,
            attempts=settings.webhook_attempts,
            failures=settings.webhook_failures,
        )
        self._queue: Queue = self._gateway.queue
        self._store: TaskStore = self._gateway.tasks
        self._heartbeat = timedelta(seconds=settings.task_heartbeat_seconds)
        # An attempt is over by then, whatever happens: the predictor's time, once more elsewhere,
        # and what is around it.
        self._lease = timedelta(seconds=2 * settings.upstream_timeout_seconds) + GRACE
        self._queue.handle(PREDICTIONS, self.predict)

    async def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        server, _ = start_http_server(
            self._settings.gateway_metrics_port,
            self._settings.gateway_host,
            self._gateway.metrics.registry,
        )
        log.info("a worker begins, metrics on %d", server.server_port)
        try:
            async with self._gateway.watching(), self._queue.opened():
                await self._gateway.routes.wait()  # without Models every attempt would fail
                beside = [
                    asyncio.create_task(self._tidy()),
                    asyncio.create_task(self._deliverer.run()),
                ]
                try:
                    await self._queue.work(
                        concurrency=self._settings.task_concurrency, heartbeat=self._heartbeat
                    )
                finally:
                    for task in beside:
                        task.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
        finally:
            await self._gateway.close()
            server.shutdown()

    async def predict(self, _: int, *, task_id: str) -> None:
        """One attempt. Raises RetryLater when there is to be another."""
        task = await self._store.start(task_id, self._lease)
        if task is None:
            return
        outcome = await self._replay.answer(task)
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
            said = outcome.body.decode("utf-8", "replace").replace("\0", "\ufffd")[:500]
            if await self._store.put_back(task, seconds, said):
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
        except ConstraintViolation as error:
            # An answer that cannot be logged is not given, and another attempt would be refused as
            # this one.
            log.error("task %s is dead, the database refuses its event: %s", task.task_id, error)  # noqa: TRY400
            self._gateway.metrics.rejected.inc()
            await self._store.finish(
                task, TaskState.DEAD, Outcome(500, [], b"the prediction cannot be logged", None)
            )

    async def _tidy(self) -> None:
        """Every heartbeat: take over from the dead. A database that is away ends the worker: its
        signs of life fail.
        """
        while True:
            await asyncio.sleep(self._heartbeat.total_seconds())
            try:
                await self._gateway.batches.sweep()
                if rescued := await self._queue.rescue(self._heartbeat) + await self._store.sweep(
                    GRACE
                ):
                    log.info("%d jobs of workers that died are put back", rescued)
            except Unavailable as error:
                log.warning("tasks cannot be tidied: %s", error)
            except (
                Exception
            ):  # the task's edge: without it the jobs of workers that die would never be put back
                log.exception("tasks cannot be tidied")


def work(settings: Settings, cluster: Cluster) -> None:
    """Run one worker in this process until it is told to end."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    # Its folder of events stays empty: events go to the database with the tasks.
    with suppress(KeyboardInterrupt):
        asyncio.run(Worker(settings, cluster).run())
