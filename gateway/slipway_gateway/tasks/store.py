"""Tasks in PostgreSQL.

A task and its queued job are stored in one transaction, and so are a response, its event in the log
and its deliveries to webhooks.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.access.audit import note
from slipway_gateway.access.context import RequestContext
from slipway_gateway.eventlog.eventlog import SHIP
from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.queue import PREDICTIONS, Queue
from slipway_gateway.postgresql.tables import tasks
from slipway_gateway.requestid import new_id
from slipway_gateway.tasks.deliveries import Deliveries
from slipway_gateway.tasks.task import UNFINISHED, WEIGHT, Outcome, Task, TaskState, known_priority

COLUMNS = [tasks.c[field.name] for field in fields(Task)]
WITHOUT_BODIES = [column for column in COLUMNS if column.name not in ("body", "answer")]


class TaskStore:
    """The store of tasks. All methods raise DatabaseUnavailable."""

    def __init__(
        self, database: Database, queue: Queue, storage: Storage, *, keep: timedelta
    ) -> None:
        self._transaction = database.transaction
        self._queue = queue
        self._storage = storage
        self._keep = keep

    async def add(self, task: Task) -> Task:
        """Store a task and enqueue it; return the existing one for a repeated idempotency key.

        Raises StorageSpent, StorageFull.
        """
        async with self._transaction() as connection:
            statement = (
                insert(tasks)
                .values(asdict(task))
                .on_conflict_do_nothing()
                .returning(tasks.c.task_id)
            )
            if (await connection.execute(statement)).first():
                await self._storage.settle(connection, task.subject)
                await self._defer(connection, task.task_id, task.priority)
                return task
            same = (tasks.c.subject == task.subject) & (tasks.c.key == task.key)
            row = (await connection.execute(select(*COLUMNS).where(same))).one()
            return _task(row)

    async def _defer(self, connection: AsyncConnection, task_id: str, priority: str) -> bool:
        weight = WEIGHT[known_priority(priority)]
        return await self._queue.defer(
            connection, PREDICTIONS, task_id, priority=weight, task_id=task_id
        )

    async def unfinished(self, subject: str) -> int:
        """Return the number of queued and running tasks of a caller."""
        query = select(func.count()).where(
            tasks.c.subject == subject, tasks.c.state.in_(UNFINISHED)
        )
        async with self._transaction() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def get(self, task_id: str) -> Task | None:
        async with self._transaction() as connection:
            row = (
                await connection.execute(select(*COLUMNS).where(tasks.c.task_id == task_id))
            ).first()
        return _task(row) if row else None

    async def list(self, *conditions: ColumnElement[bool], limit: int) -> list[Task]:
        """Return tasks without their bodies, the newest first."""
        query = (
            select(*WITHOUT_BODIES)
            .where(*conditions)
            .order_by(tasks.c.created.desc(), tasks.c.task_id.desc())
        )
        async with self._transaction() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        return [Task(**row._asdict(), body=b"", answer=None) for row in rows]

    async def start(self, task_id: str, lease: timedelta) -> Task | None:
        """Mark a task as running and return it; return None when it has finished."""
        return await self._change(task_id, UNFINISHED, state=TaskState.RUNNING, due=_now() + lease)

    async def put_back(self, task: Task, seconds: float, error: str) -> Task | None:
        """Schedule the next attempt; return None when the task was cancelled."""
        values = {
            "attempts": task.attempts + 1,
            "error": error,
            "due": _now() + timedelta(seconds=seconds),
        }
        return await self._change(
            task.task_id, (TaskState.RUNNING,), state=TaskState.QUEUED, **values
        )

    async def cancel(self, task_id: str, context: RequestContext) -> Task | None:
        """Cancel a task; return None when it has finished."""
        now = _now()
        values = {"finished": now, "expires": now + self._keep}
        async with self._transaction() as connection:
            changed = await self._update(
                connection, task_id, UNFINISHED, state=TaskState.CANCELLED, **values
            )
            if changed:
                await note(connection, context, "task.cancel", f"tasks/{task_id}")
            return changed

    async def replay(self, task_id: str, priority: str, context: RequestContext) -> Task | None:
        """Queue a dead task again; return None when it is not dead.

        It gets a new request id, because the log has an event of the last attempt.
        """
        values = {
            "request_id": new_id(),
            "attempts": 0,
            "due": _now(),
            "finished": None,
            "expires": None,
            "status": None,
        }
        values |= {"answer_headers": None, "answer": None}
        async with self._transaction() as connection:
            changed = await self._update(
                connection, task_id, (TaskState.DEAD,), state=TaskState.QUEUED, **values
            )
            if changed:
                await self._defer(connection, task_id, priority)
                await note(connection, context, "task.replay", f"tasks/{task_id}")
            return changed

    async def finish(self, task: Task, state: TaskState, outcome: Outcome) -> bool:
        """Store the response, its event and its webhook deliveries, exactly once.

        Return False when another worker has finished the task or it was cancelled.
        """
        now = _now()
        values: dict[str, Any] = {
            "attempts": task.attempts + 1,
            "status": outcome.status,
            "answer_headers": outcome.headers,
        }
        values |= {
            "answer": outcome.body,
            "finished": now,
            "expires": now + self._keep,
            "error": None,
        }
        if state is not TaskState.SUCCEEDED:
            values["error"] = outcome.body.decode("utf-8", "replace").replace("\0", "\ufffd")[:500]
        async with self._transaction() as connection:
            own = tasks.c.request_id == task.request_id
            if not await self._update(
                connection, task.task_id, (TaskState.RUNNING,), own, state=state, **values
            ):
                return False
            if outcome.event:
                await connection.execute(SHIP, {"lines": f"[{outcome.event.decode()}]"})
            await Deliveries.add(
                connection, task.subject, task.task_id, task.request_id, state.value
            )
        return True

    async def sweep(self, grace: timedelta) -> int:
        """Delete expired tasks and requeue overdue ones; return the number of requeued tasks."""
        overdue = select(tasks.c.task_id, tasks.c.priority).where(
            tasks.c.state.in_(UNFINISHED), tasks.c.due < _now() - grace
        )
        async with self._transaction() as connection:
            await connection.execute(delete(tasks).where(tasks.c.expires < _now()))
            rows = (await connection.execute(overdue.order_by(tasks.c.due).limit(100))).all()
            return sum([await self._defer(connection, row.task_id, row.priority) for row in rows])

    async def _change(
        self, task_id: str, states: Sequence[TaskState], **values: Any
    ) -> Task | None:
        async with self._transaction() as connection:
            return await self._update(connection, task_id, states, **values)

    @staticmethod
    async def _update(
        connection: AsyncConnection,
        task_id: str,
        states: Sequence[TaskState],
        *conditions: ColumnElement[bool],
        **values: Any,
    ) -> Task | None:
        where = (tasks.c.task_id == task_id, tasks.c.state.in_(states), *conditions)
        row = (
            await connection.execute(
                update(tasks).where(*where).values(**values).returning(*COLUMNS)
            )
        ).first()
        return _task(row) if row else None


def _task(row: Row[Any]) -> Task:
    return Task(**row._asdict())


def _now() -> datetime:
    return datetime.now(UTC)
