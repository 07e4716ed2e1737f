"""A task: a request for a prediction that is kept, answered later by a worker, and its answer kept
for a while.
"""

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
    """``failed``: the model refuses the input. ``dead``: every attempt failed; an admin may replay
    it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


UNFINISHED = (TaskState.QUEUED, TaskState.RUNNING)


WEIGHT = {Priority.LOW: -10, Priority.NORMAL: 0, Priority.HIGH: 10}
"""Which tasks are taken first."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the table."""

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
        """The call as it was let in: the token was good then, and the quota is paid."""
        said = self.caller
        caller = Caller(
            subjects.name_of(self.subject),
            said["name"],
            tuple(said["groups"]),
            frozenset(map(Role, said["roles"])),
            float("inf"),
            tuple(said["grantees"]),
        )
        context = RequestContext(
            self.request_id,
            caller,
            self.decision,
            "v2" if self.path.startswith("/v2") else "v1",
            said["trace"],
        )
        if said["policy"] is not None:
            context.grant = Grant(
                "",
                "",
                self.model,
                Policy(said["policy"], priority=known_priority(self.priority)),
                float("inf"),
            )
        if said["lease"] is not None:
            context.permit = PrepaidPermit(said["lease"])
        return context


def known_priority(name: str) -> Priority:
    """Of a later release's priority nothing is known here."""
    return Priority(name) if name in list(Priority) else Priority.NORMAL


class PrepaidPermit(Permit):
    """A permit that was counted when the task was accepted; the event still names its lease."""

    __slots__ = ()

    def __init__(self, lease_id: str) -> None:
        self._counted = True
        self.lease_id = lease_id


def caller_of(context: RequestContext) -> dict[str, Any]:
    """What is kept of a caller, and of what let them in."""
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
    """What a worker got for a task."""

    status: int
    headers: list[list[str]]
    body: bytes
    event: bytes | None
    """The line for the event log; None when no version answered."""

    @property
    def state(self) -> TaskState | None:
        """None: it may be better next time."""
        if self.status < 400:
            return TaskState.SUCCEEDED
        return None if self.status in (408, 429) or self.status >= 500 else TaskState.FAILED
