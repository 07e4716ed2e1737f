"""Tasks under ``/v1``: their owner sees, reads and cancels them; an admin sees all and replays what
is dead.
"""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import Field

from slipway_gateway.access.context import RequestContext
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import Schema
from slipway_gateway.errors import Conflict, Forbidden, NotFound
from slipway_gateway.identity.roles import Role
from slipway_gateway.limits.policy import Priority
from slipway_gateway.postgresql.tables import tasks as table
from slipway_gateway.requestid import PATTERN
from slipway_gateway.tasks.store import TaskStore
from slipway_gateway.tasks.task import UNFINISHED, Task, TaskState, known_priority


class TaskAnswer(Schema):
    """A prediction that is made later. It is kept for a while after its end."""

    task_id: str
    model: str
    state: TaskState
    priority: Priority
    attempts: int = Field(description="attempts that ended")
    caller: str = Field(description="whose it is: `user:ada` or `client:nightly`")
    request_id: str = Field(
        description="the receipt is at /v1/predictions/{requestId} once a version has answered"
    )
    created: datetime
    finished: datetime | None
    expires: datetime | None = Field(description="when the task and its answer are forgotten")
    status: int | None = Field(
        description="HTTP status that the request would have been answered with"
    )
    error: str | None = Field(description="what the last attempt said, unless it succeeded")
    result: Any = Field(default=None, description="the answer, where it is JSON; not in lists")


class TaskList(Schema):
    """The newest first."""

    tasks: list[TaskAnswer]


class Tasks:
    """The routes."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/tasks", responses=PROBLEMS, tags=["tasks"])
        router.get("", summary="Tasks")(self.list)
        router.get("/{task_id}", summary="One task with its answer")(self.get)
        router.get(
            "/{task_id}/result",
            summary="The answer as it would have been sent",
            response_class=Response,
        )(self.result)
        router.delete("/{task_id}", summary="Cancel a task")(self.cancel)
        router.post("/{task_id}/replay", status_code=202, summary="Try a dead task again")(
            self.replay
        )
        return router

    async def list(
        self,
        context: CurrentCall,
        state: TaskState | None = None,
        everyone: Annotated[
            bool, Query(alias="all", description="everybody's; admins only")
        ] = False,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> TaskList:
        if everyone and Role.ADMIN not in context.caller.roles:
            raise Forbidden(
                "everybody's tasks are for the role admin; leave out all to see your own"
            )
        conditions = [] if everyone else [table.c.subject == context.caller.subject]
        conditions += [table.c.state == state] if state else []
        return TaskList(
            tasks=[_described(task) for task in await self._store.list(*conditions, limit=limit)]
        )

    async def get(self, task_id: str, context: CurrentCall, response: Response) -> TaskAnswer:
        task = await self._own(task_id, context)
        if task.state in UNFINISHED:
            response.headers["retry-after"] = "1"
        return _described(task, _json(task))

    async def result(self, task_id: str, context: CurrentCall) -> Response:
        task = await self._own(task_id, context)
        if task.answer is None or task.status is None:
            raise Conflict(f"task {task_id} has no answer: it is {task.state}")
        answer = Response(task.answer, task.status)
        answer.raw_headers += [
            (name.encode(), value.encode("latin-1")) for name, value in task.answer_headers or []
        ]
        return answer

    async def cancel(self, task_id: str, context: CurrentCall) -> TaskAnswer:
        await self._own(task_id, context)
        cancelled = await self._store.cancel(task_id, context)
        if cancelled is None:
            raise Conflict(f"task {task_id} is over already")
        return _described(cancelled)

    async def replay(self, task_id: str, context: CurrentCall) -> TaskAnswer:
        task = await self._own(task_id, context)
        again = await self._store.replay(task_id, task.priority, context)
        if again is None:
            raise Conflict(f"task {task_id} is {task.state}; only a dead one can be replayed")
        return _described(again)

    async def _own(self, task_id: str, context: RequestContext) -> Task:
        """Someone else's does not exist, but for an admin. Raises NotFound."""
        task = await self._store.get(task_id) if PATTERN.fullmatch(task_id) else None
        if task is None or not (
            task.subject == context.caller.subject or Role.ADMIN in context.caller.roles
        ):
            raise NotFound(f"there is no task {task_id}")
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
