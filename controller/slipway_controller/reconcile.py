"""What to do next for one Model: a pure function of what is wanted and what is seen.

Traffic never moves to a version that has not answered a smoke prediction, and never leaves a version that answers
for one that does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from slipway_cluster import Manifest
from slipway_contract.model import Condition, ConditionType, Model, ModelStatus, TrafficRole, TrafficTarget

from slipway_controller.inference_service import Service, covers, desired
from slipway_controller.registry import RegisteredVersion, RegistryError


@dataclass(frozen=True)
class Apply:
    """Create the InferenceService, or bring it back to what it should be."""

    manifest: Manifest


@dataclass(frozen=True)
class Delete:
    """Remove an InferenceService that no traffic needs."""

    name: str


@dataclass(frozen=True)
class Smoke:
    """Make one prediction with the version's own example."""

    service: Service
    digest: str


Action = Apply | Delete | Smoke


@dataclass(frozen=True)
class Plan:
    """Actions in order, and the status to write after them."""

    actions: tuple[Action, ...]
    status: ModelStatus


@dataclass(frozen=True)
class Verdict:
    """Where the wanted version stands; ``passed`` means that it may take traffic."""

    reason: str
    message: str
    passed: bool = False
    failed: bool = False
    actions: tuple[Action, ...] = field(default=())


def reconcile(model: Model, wanted: RegisteredVersion | RegistryError, services: Sequence[Service], now: datetime) -> Plan:
    """Compare and decide. ``services`` are all InferenceServices of this model."""
    by_version = {service.version: service for service in services}
    verdict = judge(model, wanted, by_version)
    traffic = [refreshed(target, by_version.get(target.version)) for target in model.status.traffic]
    if isinstance(wanted, RegisteredVersion):
        if verdict.passed:
            traffic = advance(model, traffic, wanted, by_version[wanted.version], now)
        elif verdict.failed:
            traffic = retreat(traffic, wanted.version, by_version, now)
    traffic = expire(model, traffic, now)
    actions = [*repairs(model, traffic, by_version), *verdict.actions, *removals(traffic, wanted, services)]
    status = ModelStatus(
        observed_generation=model.metadata.generation,
        traffic=traffic,
        conditions=conditions(model, traffic, verdict, by_version, now),
    )
    return Plan(tuple(actions), status)


def judge(model: Model, wanted: RegisteredVersion | RegistryError, by_version: dict[str, Service]) -> Verdict:
    """How far the wanted version has come."""
    if isinstance(wanted, RegistryError):
        return Verdict(wanted.reason, str(wanted), failed=True)
    name = f"version {wanted.version}"
    served = next((t for t in model.status.traffic if t.version == wanted.version), None)
    if served and served.digest != wanted.digest:
        text = f"{name} is served with {served.digest}, but the registry now says {wanted.digest}: register a new version instead"
        return Verdict("DigestChanged", text, failed=True)
    service = by_version.get(wanted.version)
    if service is None:
        return Verdict(
            "Creating", f"{name} gets its InferenceService", actions=(Apply(desired(model, wanted.version, wanted.digest)),)
        )
    if service.failure:
        reason = "DigestMismatch" if "digest" in service.failure else "ModelLoadFailed"
        return Verdict(reason, f"{name}: {service.failure}", failed=True)
    if not service.ready or not service.url:
        return Verdict("WaitingForPredictor", f"{name} is not ready yet")
    if served or service.passed:
        return Verdict("Serving", f"{name} answers", passed=True)
    if service.smoke:
        return Verdict("SmokePredictionFailed", f"{name}: {service.smoke}", failed=True, actions=(Smoke(service, wanted.digest),))
    return Verdict("SmokePrediction", f"{name} is ready; trying its example", actions=(Smoke(service, wanted.digest),))


def refreshed(target: TrafficTarget, service: Service | None) -> TrafficTarget:
    """The same target at the address its InferenceService has now."""
    return target.model_copy(update={"url": service.url}) if service and service.url else target


def advance(
    model: Model, traffic: list[TrafficTarget], wanted: RegisteredVersion, service: Service, now: datetime
) -> list[TrafficTarget]:
    """Give the wanted version its next share: the rollout's steps when another is live, else everything."""
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    others = [t for t in traffic if t.version != wanted.version]
    if live and live.version == wanted.version:
        return [live.model_copy(update={"percent": 100}), *(retired(t, now) for t in others)]
    own = next((t for t in traffic if t.version == wanted.version), None)
    share, since = next_share(model, live, own, now)
    target = TrafficTarget(
        version=wanted.version,
        role=TrafficRole.LIVE if share == 100 else TrafficRole.CANARY,
        percent=share,
        digest=wanted.digest,
        run_id=wanted.run_id,
        service=service.name,
        url=service.url or "",
        since=since,
    )
    if share == 100:
        return [target, *(retired(t, now) for t in others)]
    rest = [t.model_copy(update={"percent": 100 - share}) if t is live else retired(t, now) for t in others]
    return [*rest, target]


def next_share(model: Model, live: TrafficTarget | None, own: TrafficTarget | None, now: datetime) -> tuple[int, datetime]:
    """Per cent for the wanted version now, and since when. A return to a kept version is instant."""
    steps = model.spec.rollout.steps
    if live is None or not steps or (own and own.role is TrafficRole.PREVIOUS):
        return 100, now
    if own is None or own.role is not TrafficRole.CANARY:
        return steps[0], now
    if now - own.since < timedelta(seconds=model.spec.rollout.step_seconds):
        return own.percent, own.since
    return next((step for step in steps if step > own.percent), 100), now


def retreat(traffic: list[TrafficTarget], failed: str, by_version: dict[str, Service], now: datetime) -> list[TrafficTarget]:
    """Take the failed version out of the traffic; if it was live, fall back to the newest kept one that is ready."""
    own = next((t for t in traffic if t.version == failed), None)
    if own is None:
        return traffic
    service = by_version.get(failed)
    if service is not None and service.failure is None:
        return traffic  # it still answers with the bytes that were pinned
    others = [t for t in traffic if t.version != failed]
    if own.role is TrafficRole.CANARY:
        return [t.model_copy(update={"percent": 100}) if t.role is TrafficRole.LIVE else t for t in others]
    if own.role is not TrafficRole.LIVE:
        return others
    kept = [t for t in others if t.role is TrafficRole.PREVIOUS and (s := by_version.get(t.version)) and s.ready]
    if not kept:
        return traffic
    heir = max(kept, key=lambda t: t.since)
    taken = heir.model_copy(update={"role": TrafficRole.LIVE, "percent": 100, "since": now})
    return [taken, *(t for t in others if t is not heir)]


def retired(target: TrafficTarget, now: datetime) -> TrafficTarget:
    """The target without traffic: what was live is kept for a rollback, a canary that was called off drains."""
    role = {TrafficRole.LIVE: TrafficRole.PREVIOUS, TrafficRole.CANARY: TrafficRole.DRAINING}.get(target.role)
    return target.model_copy(update={"role": role, "percent": 0, "since": now}) if role else target


def expire(model: Model, traffic: list[TrafficTarget], now: datetime) -> list[TrafficTarget]:
    """Keep the newest former versions as asked, let the others drain, and drop those that have drained."""
    rollout = model.spec.rollout
    former = sorted((t for t in traffic if t.role is TrafficRole.PREVIOUS), key=lambda t: t.since, reverse=True)
    surplus = {t.version for t in former[rollout.previous_kept :]}
    result = []
    for target in traffic:
        role = TrafficRole.DRAINING if target.version in surplus else target.role
        drained = role is TrafficRole.DRAINING and now - target.since >= timedelta(seconds=rollout.drain_seconds)
        if not drained:
            result.append(target.model_copy(update={"role": role}))
    return result


def repairs(model: Model, traffic: list[TrafficTarget], by_version: dict[str, Service]) -> list[Apply]:
    """Bring back InferenceServices in the traffic that are gone or were changed by hand."""
    result = []
    for target in traffic:
        manifest = desired(model, target.version, target.digest)
        service = by_version.get(target.version)
        if service is None or not covers(service.manifest.get("spec"), manifest["spec"]):
            result.append(Apply(manifest))
    return result


def removals(
    traffic: list[TrafficTarget], wanted: RegisteredVersion | RegistryError, services: Sequence[Service]
) -> list[Delete]:
    """InferenceServices that are neither in the traffic nor wanted. When the registry does not answer, none goes."""
    if isinstance(wanted, RegistryError):
        return []
    needed = {target.version for target in traffic} | {wanted.version}
    return [Delete(service.name) for service in services if service.version not in needed]


def conditions(
    model: Model, traffic: list[TrafficTarget], verdict: Verdict, by_version: dict[str, Service], now: datetime
) -> list[Condition]:
    """Ready, Progressing and Degraded, in the words of ``kubectl describe``."""
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    service = by_version.get(live.version) if live else None
    canary = next((t for t in traffic if t.role is TrafficRole.CANARY), None)
    if live and service and service.ready:
        ready = ("True", "Serving", f"version {live.version} answers")
    elif live and not (verdict.failed and service and service.failure):
        ready = ("False", "PredictorNotReady", f"version {live.version} is not ready at the moment")
    else:
        ready = ("False", verdict.reason, verdict.message)
    rolling = canary is not None or not (verdict.passed or verdict.failed)
    said = f"version {canary.version} takes {canary.percent} % of the traffic" if canary else verdict.message
    progressing = ("True" if rolling else "False", "RollingOut" if canary else verdict.reason, said)
    degraded = ("True", verdict.reason, verdict.message) if verdict.failed else ("False", "AsWanted", "")
    wanted = {ConditionType.READY: ready, ConditionType.PROGRESSING: progressing, ConditionType.DEGRADED: degraded}
    return [condition(model, kind, *words, now=now) for kind, words in wanted.items()]


def condition(model: Model, kind: ConditionType, status: str, reason: str, message: str, *, now: datetime) -> Condition:
    """A condition whose transition time changes only with its status."""
    before = model.status.condition(kind)
    since = before.last_transition_time if before and before.status == status else now
    word: Literal["True", "False"] = "True" if status == "True" else "False"
    return Condition(type=kind, status=word, reason=reason, message=message, last_transition_time=since)
