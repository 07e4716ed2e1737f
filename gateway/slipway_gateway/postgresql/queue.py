"""An adapter of procrastinate, a job queue in PostgreSQL.

A queued job is only a notification. Our own tables contain the work and its state, so that a
duplicate job has no effect.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued, UniqueViolation
from procrastinate.jobs import DeleteJobCondition, Job, Status
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.postgresql.connection import STATEMENT_SECONDS, Connection, parameters

PREDICTIONS = "predictions"


class RetryLater(Exception):
    """A request to run the job again after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"retry in {seconds:.1f} s")
        self.seconds = seconds


class _RetryStrategy(BaseRetryStrategy):
    """A retry after the time in RetryLater, or soon after any other error."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002
        seconds = exception.seconds if isinstance(exception, RetryLater) else 5.0
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


class Queue:
    """The job queue. ``defer`` uses the caller's connection; ``work`` requires ``opened``."""

    def __init__(self, url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        given = parameters(url, statement_seconds=statement_seconds)
        connector = PsycopgConnector(
            conninfo=url, min_size=1, max_size=8, connection_class=Connection, kwargs=given
        )
        self._app = App(connector=connector)

    def handle(self, queue: str, work: Callable[..., Awaitable[None]]) -> None:
        """Register ``work(attempts, **arguments)`` as the handler of a queue.

        ``attempts`` is the number of earlier attempts. The handler may raise RetryLater.
        """

        async def run(context: JobContext, /, **arguments: Any) -> None:
            await work(context.job.attempts, **arguments)

        self._app.task(name=queue, queue=queue, pass_context=True, retry=_RetryStrategy())(run)

    async def defer(
        self,
        connection: AsyncConnection,
        queue: str,
        lock: str,
        *,
        priority: int = 0,
        **arguments: Any,
    ) -> bool:
        """Enqueue a job in the caller's transaction.

        Return False when a job with the same ``lock`` is already waiting.
        """
        raw = (await connection.get_raw_connection()).driver_connection
        job = self._app.configure_task(
            queue, queue=queue, priority=priority, queueing_lock=lock, connection=raw
        )
        try:
            async with connection.begin_nested():
                await job.defer_async(**arguments)
        except AlreadyEnqueued:
            return False
        return True

    def opened(self) -> AbstractAsyncContextManager[Any]:
        return self._app.open_async()

    async def work(self, *, concurrency: int, heartbeat: timedelta) -> None:
        """Run jobs until SIGTERM or SIGINT, then finish the running ones.

        A worker counts as dead after three missed heartbeats.
        """
        await self._app.run_worker_async(
            concurrency=concurrency,
            fetch_job_polling_interval=1.0,
            update_heartbeat_interval=heartbeat.total_seconds(),
            stalled_worker_timeout=3 * heartbeat.total_seconds(),
            shutdown_graceful_timeout=20.0,
            delete_jobs=DeleteJobCondition.ALWAYS,
        )

    async def rescue(self, heartbeat: timedelta) -> int:
        """Requeue the jobs of dead workers and return their number."""
        stalled = list(
            await self._app.job_manager.get_stalled_jobs(
                seconds_since_heartbeat=3 * heartbeat.total_seconds()
            )
        )
        for job in stalled:
            try:
                await self._app.job_manager.retry_job(job)
            except UniqueViolation:  # another job with the same lock is waiting
                await self._app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
        return len(stalled)
