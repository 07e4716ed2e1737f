"""Tasks under ``/v1``. Owners read and cancel their tasks; admins read all and replay dead ones."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Query, Response
from pydantic import Field

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ADMINS, ALL, Permission
from slipway_gateway.errors import Conflict, Forbidden, NotFound
from slipway_gateway.http.schema import Schema
from slipway_gateway.identity.roles import Role
from slipway_gateway.limits.policy import Priority
from slipway_gateway.postgresql.tables import tasks as table
from slipway_gateway.requestid import PATTERN
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.tasks.task import UNFINISHED, Task, TaskState, known_priority


class TaskAnswer(Schema):
    """An asynchronous prediction, stored for a limited time after its end."""

    task_id: str
    model: str
    state: TaskState
    priority: Priority
    attempts: int = Field(description="number of completed attempts")
    caller: str = Field(description="owner of the task: `user:ada` or `client:nightly`")
    request_id: str = Field(
        description="id of the receipt /v1/predictions/{requestId}, which exists after a response"
    )
    created: datetime
    finished: datetime | None
    expires: datetime | None = Field(description="time at which task and response are deleted")
    status: int | None = Field(description="HTTP status of the response")
    error: str | None = Field(description="error of the last attempt; null after a success")
    result: Any = Field(default=None, description="the response if it is JSON; absent in lists")


class TaskList(Schema):
    """Tasks, newest first."""

    tasks: list[TaskAnswer]


class Tasks:
    """The task routes."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    def router(self) -> Router:
        router = Router(prefix="/v1/tasks", responses=PROBLEMS, tags=["tasks"])
        own = Permission("tasks", ALL)
        router.add("GET", self.list_tasks, own, summary="List tasks")
        router.add("GET /{task_id}", self.get_task, own, summary="Return a task with its result")
        router.add(
            "GET /{task_id}/result",
            self.get_task_result,
            own,
            summary="Return the response of a task",
            response_class=Response,
        )
        router.add("DELETE /{task_id}", self.cancel_task, own, summary="Cancel a task")
        router.add(
            "POST /{task_id}/replay",
            self.replay_task,
            Permission("replay", ADMINS),
            status_code=202,
            summary="Retry a dead task",
        )
        return router

    async def list_tasks(
        self,
        context: CurrentContext,
        state: TaskState | None = None,
        all_callers: Annotated[
            bool, Query(alias="all", description="return the tasks of all callers; admins only")
        ] = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> TaskList:
        if all_callers and Role.ADMIN not in context.caller.roles:
            raise Forbidden("all requires the role admin; omit it to list your own tasks")
        conditions = [] if all_callers else [table.c.subject == context.caller.subject]
        conditions += [table.c.state == state] if state else []
        return TaskList(
            tasks=[_described(task) for task in await self._store.list(*conditions, limit=limit)]
        )

    async def get_task(
        self, task_id: str, context: CurrentContext, response: Response
    ) -> TaskAnswer:
        task = await self._own(task_id, context)
        if task.state in UNFINISHED:
            response.headers["retry-after"] = "1"
        return _described(task, _json(task))

    async def get_task_result(self, task_id: str, context: CurrentContext) -> Response:
        task = await self._own(task_id, context)
        if task.answer is None or task.status is None:
            raise Conflict(f"task {task_id} has no response: its state is {task.state}")
        answer = Response(task.answer, task.status)
        answer.raw_headers += [
            (name.encode(), value.encode("latin-1")) for name, value in task.answer_headers or []
        ]
        return answer

    async def cancel_task(self, task_id: str, context: CurrentContext) -> TaskAnswer:
        await self._own(task_id, context)
        cancelled = await self._store.cancel(task_id, context)
        if cancelled is None:
            raise Conflict(f"task {task_id} has already ended")
        return _described(cancelled)

    async def replay_task(self, task_id: str, context: CurrentContext) -> TaskAnswer:
        task = await self._own(task_id, context)
        again = await self._store.replay(task_id, task.priority, context)
        if again is None:
            raise Conflict(f"task {task_id} is {task.state}; only a dead task can be replayed")
        return _described(again)

    async def _own(self, task_id: str, context: RequestContext) -> Task:
        """Return a task of the caller, or any task for an admin. Raises NotFound otherwise."""
        task = await self._store.get(task_id) if PATTERN.fullmatch(task_id) else None
        if task is None or not (
            task.subject == context.caller.subject or Role.ADMIN in context.caller.roles
        ):
            raise NotFound(f"task {task_id} does not exist")
        return task


def _described(task: Task, result: Any = None) -> TaskAnswer:
    return TaskAnswer(
        task_id=task.task_id,
        model=task.model,
        state=TaskState(task.state),
        priority=known_priority(task.priority),
        attempts=task.attempts,
        caller=task.subject,
        request_id=task.request_id,
        created=task.created,
        finished=task.finished,
        expires=task.expires,
        status=task.status,
        error=task.error,
        result=result,
    )


def _json(task: Task) -> Any:
    if task.answer is None:
        return None
    try:
        return orjson.loads(task.answer)
    except orjson.JSONDecodeError:
        return None
