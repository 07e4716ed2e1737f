"""Traffic moves of ``reconcile``: pure functions from traffic targets to traffic targets.

Traffic never moves to a version without a passed smoke prediction, and never moves from a ready
version to one that is not.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from slipway_contract.model import Model, TrafficRole, TrafficTarget

from slipway_controller.inference_service import Service
from slipway_controller.registry import RegisteredVersion


def refreshed(target: TrafficTarget, service: Service | None) -> TrafficTarget:
    """Return the target with the current address and runtime of its InferenceService."""
    if service is None or not service.url:
        return target
    return target.model_copy(update={"url": service.url, "verified": service.verified})


def advance(
    model: Model,
    traffic: list[TrafficTarget],
    wanted: RegisteredVersion,
    service: Service,
    now: datetime,
    steps: Sequence[int],
) -> list[TrafficTarget]:
    """Give the wanted version its next share of the traffic.

    The share follows the steps while another version is live; otherwise it is 100 %.
    """
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    others = [t for t in traffic if t.version != wanted.version]
    if live and live.version == wanted.version:
        return [live.model_copy(update={"percent": 100}), *(retired(t, now) for t in others)]
    own = next((t for t in traffic if t.version == wanted.version), None)
    share, since = next_share(model, live, own, now, steps)
    target = TrafficTarget(
        version=wanted.version,
        role=TrafficRole.LIVE if share == 100 else TrafficRole.CANARY,
        percent=share,
        digest=wanted.digest,
        run_id=wanted.run_id,
        service=service.name,
        url=service.url or "",
        verified=service.verified,
        since=since,
    )
    if share == 100:
        return [target, *(retired(t, now) for t in others)]
    rest = [
        t.model_copy(update={"percent": 100 - share}) if t is live else retired(t, now)
        for t in others
    ]
    return [*rest, target]


def next_share(
    model: Model,
    live: TrafficTarget | None,
    own: TrafficTarget | None,
    now: datetime,
    steps: Sequence[int],
) -> tuple[int, datetime]:
    """Return the percentage of the wanted version and the time since which it has it.

    A rollback to a kept version is immediate.
    """
    if live is None or not steps or (own and own.role is TrafficRole.PREVIOUS):
        return 100, now
    if own is None or own.role is not TrafficRole.CANARY:
        return steps[0], now
    if now - own.since < timedelta(seconds=model.spec.rollout.step_seconds):
        return own.percent, own.since
    return next((step for step in steps if step > own.percent), 100), now


def fail_over(
    traffic: list[TrafficTarget], by_version: Mapping[str, Service], now: datetime
) -> list[TrafficTarget]:
    """Move traffic from versions that are not ready to those that are, whatever the alias is.

    A canary returns its share immediately. The live version loses its share only when its failure
    is lasting: to the newest kept version that is ready, else to a ready canary. Both leave the
    list; when they become ready again, they start as new ones.
    """
    live = next((t for t in traffic if t.role is TrafficRole.LIVE), None)
    if live is None:
        return traffic
    ready = {version for version, service in by_version.items() if service.ready}
    silent = [t for t in traffic if t.percent and t is not live and t.version not in ready]
    share = live.percent + sum(t.percent for t in silent)
    others = [t for t in traffic if t is not live and t not in silent]
    service = by_version.get(live.version)
    successors = [
        t
        for t in others
        if t.version in ready and t.role in (TrafficRole.PREVIOUS, TrafficRole.CANARY)
    ]
    if service is None or not service.broken or not successors:
        return [
            live.model_copy(update={"percent": share}) if t is live else t
            for t in traffic
            if t not in silent
        ]
    successor = max(successors, key=lambda t: (t.role is TrafficRole.PREVIOUS, t.since))
    promoted = successor.model_copy(
        update={"role": TrafficRole.LIVE, "percent": share + successor.percent, "since": now}
    )
    return [promoted, *(t for t in others if t is not successor)]


def without_broken(
    traffic: list[TrafficTarget], wanted: str, by_version: Mapping[str, Service]
) -> list[TrafficTarget]:
    """Drop the wanted version when it is kept without traffic and broken.

    It must pass a smoke prediction before it serves again.
    """
    service = by_version.get(wanted)
    if service is None or not service.broken:
        return traffic
    return [t for t in traffic if t.version != wanted or t.percent]


def retired(target: TrafficTarget, now: datetime) -> TrafficTarget:
    """Return the target without traffic.

    A live version is kept for a rollback; a canary, or a role of a later release, drains.
    """
    if target.role in (TrafficRole.PREVIOUS, TrafficRole.DRAINING):
        return target
    role = TrafficRole.PREVIOUS if target.role is TrafficRole.LIVE else TrafficRole.DRAINING
    return target.model_copy(update={"role": role, "percent": 0, "since": now})


def expire(model: Model, traffic: list[TrafficTarget], now: datetime) -> list[TrafficTarget]:
    """Keep the configured number of former versions, drain the others, drop the drained ones."""
    rollout = model.spec.rollout
    former = sorted(
        (t for t in traffic if t.role is TrafficRole.PREVIOUS), key=lambda t: t.since, reverse=True
    )
    surplus = {t.version for t in former[rollout.previous_kept :]}
    result = []
    for target in traffic:
        role = TrafficRole.DRAINING if target.version in surplus else target.role
        drained = role is TrafficRole.DRAINING and now - target.since >= timedelta(
            seconds=rollout.drain_seconds
        )
        if not drained:
            result.append(target.model_copy(update={"role": role}))
    return result


def suspended(traffic: list[TrafficTarget], now: datetime) -> list[TrafficTarget]:
    """Drain all versions: the Model is being deleted."""
    leaving = {"role": TrafficRole.DRAINING, "percent": 0, "since": now}
    return [t if t.role is TrafficRole.DRAINING else t.model_copy(update=leaving) for t in traffic]
