"""A task: a stored prediction request, which a worker executes, with its response."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grants import Grant
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.limits.policy import Policy, Priority
from slipway_gateway.limits.quotas import Permit


class TaskState(StrEnum):
    """The states of a task.

    ``failed``: the model rejects the input. ``dead``: every attempt failed; an admin can replay it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


UNFINISHED = (TaskState.QUEUED, TaskState.RUNNING)


WEIGHT = {Priority.LOW: -10, Priority.NORMAL: 0, Priority.HIGH: 10}
"""Priority of a task in the queue; higher ones run first."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A row of the table ``tasks``."""

    task_id: str
    request_id: str
    subject: str
    caller: dict[str, Any]
    decision: str
    model: str
    path: str
    headers: list[list[str]]
    body: bytes
    priority: str
    key: str | None
    fingerprint: str
    state: str
    attempts: int
    created: datetime
    due: datetime
    finished: datetime | None = None
    expires: datetime | None = None
    status: int | None = None
    answer_headers: list[list[str]] | None = None
    answer: bytes | None = None
    error: str | None = None

    @property
    def context(self) -> RequestContext:
        """The request context at admission: the token was valid and the quota is charged."""
        stored = self.caller
        caller = Caller(
            subjects.name_of(self.subject),
            stored["name"],
            tuple(stored["groups"]),
            frozenset(map(Role, stored["roles"])),
            float("inf"),
            tuple(stored["grantees"]),
        )
        context = RequestContext(
            self.request_id,
            caller,
            self.decision,
            "v2" if self.path.startswith("/v2") else "v1",
            stored["trace"],
        )
        if stored["policy"] is not None:
            context.grant = Grant(
                "",
                "",
                self.model,
                Policy(stored["policy"], priority=known_priority(self.priority)),
                float("inf"),
            )
        if stored["lease"] is not None:
            context.permit = PrepaidPermit(stored["lease"])
        return context


def known_priority(name: str) -> Priority:
    """Parse a priority; one of a later release counts as normal."""
    return Priority(name) if name in list(Priority) else Priority.NORMAL


class PrepaidPermit(Permit):
    """A permit that was counted when the task was accepted; the event includes its lease."""

    __slots__ = ()

    def __init__(self, lease_id: str) -> None:
        self._counted = True
        self.lease_id = lease_id


def caller_of(context: RequestContext) -> dict[str, Any]:
    """Return the stored form of a caller and of the request's authorization."""
    caller = context.caller
    return {
        "trace": dict(context.trace) if context.trace else None,
        "name": caller.name,
        "groups": list(caller.groups),
        "roles": sorted(caller.roles),
        "grantees": list(caller.grantees),
        "policy": context.grant.policy.name if context.grant else None,
        "lease": context.permit.lease_id if context.permit else None,
    }


@dataclass(frozen=True)
class Outcome:
    """The result of one attempt of a task."""

    status: int
    headers: list[list[str]]
    body: bytes
    event: bytes | None
    """The line for the event log; None when no version answered."""

    @property
    def state(self) -> TaskState | None:
        """The final state; None when another attempt may succeed."""
        if self.status < 400:
            return TaskState.SUCCEEDED
        return None if self.status in (408, 429) or self.status >= 500 else TaskState.FAILED
