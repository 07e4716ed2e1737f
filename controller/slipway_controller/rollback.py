"""Rollbacks: a declared version serves while the alias points to one that it replaces.

The controller reads the registry and cannot move the alias. It starts the Job that does, after the
traffic has moved.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from slipway_cluster import CRON_JOB, JOB, Cluster, Manifest, NotFound
from slipway_contract import labels
from slipway_contract.model import (
    Model,
    Rollback,
    RollbackState,
    RollbackStatus,
    TrafficRole,
    TrafficTarget,
)

from slipway_controller.action import Delete, MoveAlias
from slipway_controller.adoption import condition_of, failure_of
from slipway_controller.diagnosis import Diagnosis
from slipway_controller.events import ModelEvent
from slipway_controller.readiness import Readiness
from slipway_controller.registry import ROLLBACK_FAILED, RegisteredVersion, RegistryError

TEMPLATE = "promote"
"""Name of the suspended CronJob that is the template of the Job."""


@dataclass(frozen=True)
class ObservedAlias:
    """The version to which the alias points, and the Job that moves it to a rollback's version."""

    version: str | None = None
    stale: bool = False
    """True when MLflow is unreachable: then ``version`` is that of the status."""
    job: Literal["due", "running", "complete", "failed", "impossible"] = "due"
    """``due``: it does not exist; ``impossible``: the namespace has no template for it."""
    message: str = ""
    obsolete: tuple[str, ...] = ()
    """Unfinished Jobs of other rollbacks, which would move the alias later."""


def active(model: Model, alias: ObservedAlias) -> Rollback | None:
    """Return the rollback that decides which version is wanted, if there is one.

    A Job that is complete has moved the alias. If the alias still points to a version that the
    rollback replaces, it was moved again.
    """
    declared = model.spec.rollback
    if declared is None or alias.job == "complete":
        return None
    return declared if declared.in_effect(model.status, alias.version) else None


def failure(model: Model, declared: Rollback) -> RegistryError | None:
    """Return the failure of a rollback that has failed; the registry is not read again."""
    known = model.status.rollback
    if known and declared.is_same(known) and known.state is RollbackState.FAILED:
        return RegistryError(ROLLBACK_FAILED, known.message)
    return None


def status_of(
    model: Model,
    alias: ObservedAlias,
    wanted: RegisteredVersion | RegistryError,
    readiness: Readiness,
    traffic: Sequence[TrafficTarget],
) -> RollbackStatus | None:
    """Return the state of the declared rollback after a reconciliation, or the last one's end."""
    declared, known = model.spec.rollback, model.status.rollback
    if declared is None:
        return known if known and known.is_final else None
    if known and declared.is_same(known) and known.is_final:
        return known
    name, former = f"version {declared.version}", _listed(declared)
    if active(model, alias) is None:
        if alias.job == "complete":
            message = (
                f"Job {job_name(model, declared, alias.version)} is complete, and the alias "
                f"{model.spec.alias} points to version {alias.version} again"
            )
            return _status(declared, RollbackState.ENDED, message)
        if alias.version is None:
            message = f"the alias {model.spec.alias} points to no version"
            return _status(declared, RollbackState.PENDING, message)
        message = f"the alias {model.spec.alias} points to version {alias.version}"
        return _status(declared, RollbackState.ENDED, message)
    if isinstance(wanted, RegistryError) and wanted.reason == ROLLBACK_FAILED:
        if failure(model, declared):
            return known
        live = _live(traffic)
        message = f"{wanted}, or remove spec.rollback; " + (
            f"version {live} stays live" if live else "no version is live"
        )
        return _status(declared, RollbackState.FAILED, message)
    if _live(traffic) != declared.version:
        message = f"{name} is to serve instead of {former}: {readiness.message}"
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
    if alias.stale:
        return f"a Job moves the alias {model.spec.alias} when MLflow answers"
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


def cancellations(alias: ObservedAlias) -> tuple[Delete, ...]:
    """Return the deletions of the Jobs of rollbacks that have ended or were replaced."""
    return tuple(Delete(JOB, name) for name in alias.obsolete)


def plan_move(model: Model, alias: ObservedAlias) -> tuple[MoveAlias, ...]:
    """Return the Job that moves the alias, once the version of the rollback is live.

    The Job moves the alias only from the version that was read. Without MLflow it would fail.
    """
    declared = active(model, alias)
    if declared is None or alias.version is None or alias.stale or alias.job != "due":
        return ()
    if failure(model, declared) or _live(model.status.traffic) != declared.version:
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


def rollback_jobs(cluster: Cluster, model: Model) -> list[Manifest]:
    """Return the Jobs that the controller has started for rollbacks of the model."""
    if model.spec.rollback is None and model.status.rollback is None:
        return []
    own = {labels.PURPOSE: "promotion", labels.MODEL: model.name}
    return [
        job
        for job in cluster.list(JOB, own)
        if job["metadata"].get("annotations", {}).get(labels.SUBMITTED_BY) == labels.CONTROLLER
    ]


def observed_alias(
    cluster: Cluster, model: Model, jobs: Sequence[Manifest], version: str | None, *, stale: bool
) -> ObservedAlias:
    """Return the version of the alias with the state of the Job of an active rollback.

    ``jobs`` were read before the alias: the alias that a complete one has moved was read after it.
    Kubernetes removes a failed Job after ``ttlSecondsAfterFinished``; the controller then starts
    another one.
    """
    declared = active(model, ObservedAlias(version))
    name = job_name(model, declared, version) if declared else None
    obsolete = tuple(
        job["metadata"]["name"]
        for job in jobs
        if job["metadata"]["name"] != name
        and _target(job) != version  # it has just moved the alias and writes the audit entry
        and "deletionTimestamp" not in job["metadata"]
        and not (condition_of(job, "Complete") or condition_of(job, "Failed"))
    )
    alias = ObservedAlias(version, stale, obsolete=obsolete)
    if declared is None:
        return alias
    job = next((job for job in jobs if job["metadata"]["name"] == name), None)
    if job is None:
        try:
            cluster.get(CRON_JOB, TEMPLATE)
        except NotFound:
            return replace(alias, job="impossible")
        return alias
    if (why := failure_of(cluster, job)) is not None:
        return replace(alias, job="failed", message=why or "see its log")
    is_complete = condition_of(job, "Complete") is not None and not stale
    return replace(alias, job="complete" if is_complete else "running")


def _target(job: Manifest) -> str:
    target: str = json.loads(job["metadata"]["annotations"][labels.REQUEST])["version"]
    return target
