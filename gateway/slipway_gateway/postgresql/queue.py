"""The door to procrastinate: what waits to be done, in PostgreSQL.

A job of the queue only says that somebody should look; what is to be done, and whether it still is,
stands in our own tables. So a job that comes twice does nothing the second time.
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
    """Not now; look again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:.1f} s")
        self.seconds = seconds


class _AsAsked(BaseRetryStrategy):
    """Who works says when to look again; a bug or an absent database is looked at again soon."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002
        seconds = exception.seconds if isinstance(exception, RetryLater) else 5.0
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


class Queue:
    """Deferring needs only a connection of the caller's; working needs ``opened``."""

    def __init__(self, url: str, *, statement_seconds: float = STATEMENT_SECONDS) -> None:
        given = parameters(url, statement_seconds=statement_seconds)
        connector = PsycopgConnector(
            conninfo=url, min_size=1, max_size=8, connection_class=Connection, kwargs=given
        )
        self._app = App(connector=connector)

    def handle(self, queue: str, work: Callable[..., Awaitable[None]]) -> None:
        """What is done for a job of that queue: ``work(attempts, **arguments)``, the attempts
        before. It may raise RetryLater.
        """

        async def run(context: JobContext, /, **arguments: Any) -> None:
            await work(context.job.attempts, **arguments)

        self._app.task(name=queue, queue=queue, pass_context=True, retry=_AsAsked())(run)

    async def defer(
        self,
        connection: AsyncConnection,
        queue: str,
        lock: str,
        *,
        priority: int = 0,
        **arguments: Any,
    ) -> bool:
        """In the caller's transaction, so that both happen or neither; False when one with that
        lock waits already.
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
        """Until SIGTERM or SIGINT; then what is under way is finished. A worker that dies is
        noticed after three heartbeats.
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
        """Put back the jobs of workers that died; how many."""
        stalled = list(
            await self._app.job_manager.get_stalled_jobs(
                seconds_since_heartbeat=3 * heartbeat.total_seconds()
            )
        )
        for job in stalled:
            try:
                await self._app.job_manager.retry_job(job)
            except UniqueViolation:  # another one with its lock waits
                await self._app.job_manager.finish_job(job, Status.FAILED, delete_job=True)
        return len(stalled)
