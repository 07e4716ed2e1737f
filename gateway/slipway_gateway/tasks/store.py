"""Tasks in PostgreSQL. What belongs together is one transaction: a task and its place in the queue;
an answer, its event in the log, and its deliveries to webhooks.
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
    """Every call raises DatabaseUnavailable while the database is."""

    def __init__(
        self, database: Database, queue: Queue, storage: Storage, *, keep: timedelta
    ) -> None:
        self._transaction = database.transaction
        self._queue = queue
        self._storage = storage
        self._keep = keep

    async def add(self, task: Task) -> Task:
        """The task, or the one that its caller made before with the same key. Raises StorageSpent,
        StorageFull.
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
        """How many of the caller's tasks wait or run."""
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
        """The newest first, without bodies."""
        query = (
            select(*WITHOUT_BODIES)
            .where(*conditions)
            .order_by(tasks.c.created.desc(), tasks.c.task_id.desc())
        )
        async with self._transaction() as connection:
            rows = (await connection.execute(query.limit(limit))).all()
        return [Task(**row._asdict(), body=b"", answer=None) for row in rows]

    async def start(self, task_id: str, lease: timedelta) -> Task | None:
        """The task, running from now on; None when there is nothing left to do."""
        return await self._change(task_id, UNFINISHED, state=TaskState.RUNNING, due=_now() + lease)

    async def put_back(self, task: Task, seconds: float, error: str) -> Task | None:
        """Wait for the next attempt. None when it was cancelled meanwhile."""
        values = {
            "attempts": task.attempts + 1,
            "error": error,
            "due": _now() + timedelta(seconds=seconds),
        }
        return await self._change(
            task.task_id, (TaskState.RUNNING,), state=TaskState.QUEUED, **values
        )

    async def cancel(self, task_id: str, context: RequestContext) -> Task | None:
        """None when it is over."""
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
        """A dead task once more, as a new request: the event of the last attempt stays what it is.
        None when it is not dead.
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
        """The answer, its event and the notices, once: False when another worker was first or the
        task was cancelled.
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
        """Forget what is expired; put tasks back that nobody looks at though they are due. How many
        were put back.
        """
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
