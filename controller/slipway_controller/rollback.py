"""Rollbacks: a declared version serves while the alias points to one that it replaces.

The controller reads the registry and cannot move the alias. It starts the Job that does, after the
traffic has moved.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from slipway_cluster import CRON_JOB, JOB, Cluster, NotFound
from slipway_contract.model import (
    Model,
    Rollback,
    RollbackState,
    RollbackStatus,
    TrafficRole,
    TrafficTarget,
)

from slipway_controller.action import MoveAlias
from slipway_controller.adoption import failure_of
from slipway_controller.diagnosis import Diagnosis
from slipway_controller.events import ModelEvent
from slipway_controller.registry import ROLLBACK_FAILED, RegisteredVersion, RegistryError

TEMPLATE = "promote"
"""Name of the suspended CronJob that is the template of the Job."""


@dataclass(frozen=True)
class ObservedAlias:
    """The version to which the alias points, and the Job that moves it to a rollback's version."""

    version: str | None = None
    job: Literal["due", "running", "failed", "impossible"] = "due"
    """``due``: it does not exist; ``impossible``: the namespace has no template for it."""
    message: str = ""


def active(model: Model, alias_version: str | None) -> Rollback | None:
    """Return the rollback that decides which version is wanted, if there is one."""
    declared = model.spec.rollback
    return declared if declared and declared.in_effect(model.status, alias_version) else None


def status_of(
    model: Model,
    alias: ObservedAlias,
    wanted: RegisteredVersion | RegistryError,
    traffic: Sequence[TrafficTarget],
) -> RollbackStatus | None:
    """Return the state of the declared rollback after a reconciliation."""
    declared, known = model.spec.rollback, model.status.rollback
    if declared is None:
        return None
    if known and declared.is_same(known) and known.is_final:
        return known
    name, former = f"version {declared.version}", _listed(declared)
    if active(model, alias.version) is None:
        if alias.version is None:
            message = f"the alias {model.spec.alias} points to no version"
            return _status(declared, RollbackState.PENDING, message)
        message = f"the alias {model.spec.alias} points to version {alias.version}"
        return _status(declared, RollbackState.ENDED, message)
    if isinstance(wanted, RegistryError) and wanted.reason == ROLLBACK_FAILED:
        message = f"{wanted}; nothing was changed"
        return _status(declared, RollbackState.FAILED, message)
    if _live(traffic) != declared.version:
        message = f"{name} is to serve instead of {former}; it has not answered its example yet"
        return _status(declared, RollbackState.PENDING, message)
    message = f"{name} serves instead of {former}; {_next_step(model, declared, alias)}"
    return _status(declared, RollbackState.SERVING, message)


def _status(declared: Rollback, state: RollbackState, message: str) -> RollbackStatus:
    return RollbackStatus(**declared.model_dump(), state=state, message=message)


def _listed(declared: Rollback) -> str:
    return " and ".join(f"version {each}" for each in declared.instead_of)


def _next_step(model: Model, declared: Rollback, alias: ObservedAlias) -> str:
    job = job_name(model, declared, alias.version)
    by_hand = (
        f"run python -m slipway_jobs promote {model.spec.registered_model} {declared.version} "
        f"--alias={model.spec.alias} --rollback --reason=TEXT"
    )
    match alias.job:
        case "impossible":
            return f"there is no CronJob {TEMPLATE} to move the alias: {by_hand}"
        case "failed":
            return f"Job {job} did not move the alias: {alias.message}; delete it, or {by_hand}"
    return f"Job {job} moves the alias {model.spec.alias}"


def problem_of(status: RollbackStatus | None, alias: ObservedAlias) -> Diagnosis | None:
    """Return the failure of a rollback that needs a repair."""
    if status is None:
        return None
    if status.state is RollbackState.FAILED:
        return Diagnosis("RollbackFailed", f"spec.rollback: {status.message}")
    if status.state is RollbackState.SERVING and alias.job in ("failed", "impossible"):
        return Diagnosis("AliasNotMoved", status.message)
    return None


def events_of(before: RollbackStatus | None, after: RollbackStatus | None) -> Iterator[ModelEvent]:
    """Report each state of a rollback once."""
    if after is None:
        if before and not before.is_final:
            yield ModelEvent("RollbackRemoved", f"version {before.version}: the field was removed")
        return
    if before and after.is_same(before) and after.state is before.state:
        return
    message = f"{after.message} (reason: {after.reason})"
    match after.state:
        case RollbackState.PENDING:
            yield ModelEvent("RollingBack", message)
        case RollbackState.SERVING:
            yield ModelEvent("RolledBack", message)
        case RollbackState.ENDED:
            yield ModelEvent("RollbackEnded", message)


def plan_move(model: Model, alias: ObservedAlias) -> tuple[MoveAlias, ...]:
    """Return the Job that moves the alias, once the version of the rollback is live."""
    declared = active(model, alias.version)
    if declared is None or alias.job != "due" or _live(model.status.traffic) != declared.version:
        return ()
    request = {"version": declared.version, "rollback": True, "reason": declared.reason}
    args = (
        model.spec.registered_model,
        declared.version,
        f"--alias={model.spec.alias}",
        "--rollback",
        f"--from={alias.version}",
        f"--reason={declared.reason}",
    )
    return (MoveAlias(job_name(model, declared, alias.version), args, json.dumps(request)),)


def _live(traffic: Sequence[TrafficTarget]) -> str | None:
    return next((t.version for t in traffic if t.role is TrafficRole.LIVE), None)


def job_name(model: Model, declared: Rollback, alias_version: str | None) -> str:
    """Return the name of the Job; the name prevents a second one for the same move."""
    source = f"{declared.manifest()}\0{alias_version}"
    return f"rollback-{model.name}-{hashlib.sha256(source.encode()).hexdigest()[:10]}"


def observed_alias(cluster: Cluster, model: Model, version: str | None) -> ObservedAlias:
    """Return the version of the alias with the state of the Job of an active rollback.

    Kubernetes removes a failed Job after ``ttlSecondsAfterFinished``; the controller then starts
    another one.
    """
    declared = active(model, version)
    if declared is None:
        return ObservedAlias(version)
    name = job_name(model, declared, version)
    try:
        job = cluster.get(JOB, name)
    except NotFound:
        try:
            cluster.get(CRON_JOB, TEMPLATE)
        except NotFound:
            return ObservedAlias(version, "impossible")
        return ObservedAlias(version)
    failure = failure_of(cluster, job)
    if failure is None:
        return ObservedAlias(version, "running")
    return ObservedAlias(version, "failed", failure or "see its log")
