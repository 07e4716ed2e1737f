"""Ready, Progressing and Degraded, in the words of ``kubectl describe``."""

from datetime import datetime
from typing import Literal

from slipway_contract.model import Condition, ConditionType, ModelStatus, TrafficRole, TrafficTarget

from slipway_controller.inference_service import Service
from slipway_controller.readiness import Readiness

DELETING = "Deleting"
"""Reason of a Model's last conditions."""

Words = tuple[bool, str, str]
"""Status, reason and message of a condition."""


def conditions(
    before: ModelStatus,
    traffic: list[TrafficTarget],
    readiness: Readiness,
    by_version: dict[str, Service],
    now: datetime,
) -> list[Condition]:
    """The three conditions of a Model that is served."""
    canary = next((t for t in traffic if t.role is TrafficRole.CANARY), None)
    rolling = canary is not None or not (readiness.passed or readiness.failed)
    said = (
        f"version {canary.version} takes {canary.percent} % of the traffic"
        if canary
        else readiness.message
    )
    return stated(
        before,
        ready=_ready(traffic, readiness, by_version),
        progressing=(rolling, "RollingOut" if canary else readiness.reason, said),
        degraded=(True, readiness.reason, readiness.message)
        if readiness.failed
        else (False, "AsWanted", ""),
        now=now,
    )


def stated(
    before: ModelStatus, *, ready: Words, progressing: Words, degraded: Words, now: datetime
) -> list[Condition]:
    """Conditions whose transition times change only with their status."""
    wanted = {
        ConditionType.READY: ready,
        ConditionType.PROGRESSING: progressing,
        ConditionType.DEGRADED: degraded,
    }
    return [
        _condition(before.condition(kind), kind, *words, now=now) for kind, words in wanted.items()
    ]


def degraded(before: ModelStatus, reason: str, message: str, now: datetime) -> ModelStatus:
    """The status as it was, but Degraded: something outside of the rollout keeps it from going
    on.
    """
    others = [c for c in before.conditions if c.type is not ConditionType.DEGRADED]
    found = _condition(
        before.condition(ConditionType.DEGRADED),
        ConditionType.DEGRADED,
        True,
        reason,
        message,
        now=now,
    )
    return before.model_copy(update={"conditions": [*others, found]})


def _ready(
    traffic: list[TrafficTarget], readiness: Readiness, by_version: dict[str, Service]
) -> Words:
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    if live is None:
        return False, readiness.reason, readiness.message
    service = by_version.get(live.version)
    if service and service.ready:
        return True, "Serving", f"version {live.version} answers"
    if service and service.diagnosis:
        return (
            False,
            service.diagnosis.reason,
            f"version {live.version}: {service.diagnosis.message}",
        )
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
    word: Literal["True", "False"] = "True" if holds else "False"
    since = before.last_transition_time if before and before.status == word else now
    return Condition(
        type=kind, status=word, reason=reason, message=message, last_transition_time=since
    )
