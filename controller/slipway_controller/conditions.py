"""The conditions Ready, Progressing and Degraded of a Model."""

from datetime import datetime
from typing import Literal

from slipway_contract.model import Condition, ConditionType, ModelStatus, TrafficRole, TrafficTarget

from slipway_controller.diagnosis import Diagnosis
from slipway_controller.inference_service import Service
from slipway_controller.readiness import Readiness

DELETING = "Deleting"
"""Reason of the last conditions of a Model."""

ConditionValue = tuple[bool, str, str]
"""Status, reason and message of a condition."""


def conditions(
    before: ModelStatus,
    traffic: list[TrafficTarget],
    readiness: Readiness,
    by_version: dict[str, Service],
    now: datetime,
    problem: Diagnosis | None = None,
) -> list[Condition]:
    """Return the three conditions of a Model that is not being deleted.

    ``problem`` is a failure that does not concern a version; that of the wanted version precedes.
    """
    canary = next((t for t in traffic if t.role is TrafficRole.CANARY), None)
    waiting = readiness.replacing or not (readiness.passed or readiness.failed)
    rolling = canary is not None or waiting
    message = (
        f"version {canary.version} takes {canary.percent} % of the traffic"
        if canary
        else readiness.message
    )
    return with_transition_times(
        before,
        ready=_ready(traffic, readiness, by_version),
        progressing=(rolling, "RollingOut" if canary else readiness.reason, message),
        degraded=_degraded(readiness, problem),
        now=now,
    )


def _degraded(readiness: Readiness, problem: Diagnosis | None) -> ConditionValue:
    if readiness.failed:
        return True, readiness.reason, readiness.message
    return (True, problem.reason, problem.message) if problem else (False, "UpToDate", "")


def with_transition_times(
    before: ModelStatus,
    *,
    ready: ConditionValue,
    progressing: ConditionValue,
    degraded: ConditionValue,
    now: datetime,
) -> list[Condition]:
    """Return the three conditions; a transition time changes only with its status."""
    wanted = {
        ConditionType.READY: ready,
        ConditionType.PROGRESSING: progressing,
        ConditionType.DEGRADED: degraded,
    }
    return [
        _condition(before.condition(kind), kind, *value, now=now) for kind, value in wanted.items()
    ]


def degraded(before: ModelStatus, reason: str, message: str, now: datetime) -> ModelStatus:
    """Return the former status with Degraded true: a failure outside of the rollout stops it."""
    others = [c for c in before.conditions if c.type is not ConditionType.DEGRADED]
    kind = ConditionType.DEGRADED
    condition = _condition(before.condition(kind), kind, True, reason, message, now=now)
    return before.model_copy(update={"conditions": [*others, condition]})


def _ready(
    traffic: list[TrafficTarget], readiness: Readiness, by_version: dict[str, Service]
) -> ConditionValue:
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    if live is None:
        return False, readiness.reason, readiness.message
    service = by_version.get(live.version)
    if service and service.ready:
        return True, "Serving", f"version {live.version} answers"
    if service and service.diagnosis:
        diagnosis = service.diagnosis
        return False, diagnosis.reason, f"version {live.version}: {diagnosis.message}"
    return False, "PredictorNotReady", f"version {live.version} is not ready at the moment"


def _condition(
    before: Condition | None,
    kind: ConditionType,
    holds: bool,
    reason: str,
    message: str,
    *,
    now: datetime,
) -> Condition:
    status: Literal["True", "False"] = "True" if holds else "False"
    since = before.last_transition_time if before and before.status == status else now
    return Condition(
        type=kind, status=status, reason=reason, message=message, last_transition_time=since
    )
