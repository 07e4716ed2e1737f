"""Reconciliation of one Model: a pure function of the desired and the observed state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway_cluster import HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, Manifest
from slipway_contract import labels
from slipway_contract.model import Model, ModelStatus, TrafficTarget, UnpromotedVersion

from slipway_controller.action import Action, Apply, Delete
from slipway_controller.adoption import Adoption
from slipway_controller.autoscaler import desired_autoscaler
from slipway_controller.conditions import conditions, with_transition_times
from slipway_controller.events import ModelEvent, events
from slipway_controller.inference_service import Service, changes, desired, terminating
from slipway_controller.readiness import assess_readiness
from slipway_controller.registry import RegisteredVersion, RegistryError
from slipway_controller.rollback import (
    ObservedAlias,
    active,
    cancellations,
    events_of,
    plan_move,
    problem_of,
    status_of,
)
from slipway_controller.traffic import (
    advance,
    expire,
    fail_over,
    refreshed,
    suspended,
    without_broken,
)
from slipway_controller.training import ObservedTraining, plan_training, training_removals


@dataclass(frozen=True)
class ReconcilePlan:
    """Actions in order, then the status to write and the Events to record."""

    actions: tuple[Action, ...]
    status: ModelStatus
    events: tuple[ModelEvent, ...] = ()
    training: tuple[Action, ...] = ()
    """Actions on the CronJob of the training; their failure concerns no traffic."""
    over: bool = False
    """True when the deletion of the Model is complete."""


def reconcile(
    model: Model,
    wanted: RegisteredVersion | RegistryError,
    services: Sequence[Service],
    now: datetime,
    autoscalers: Sequence[Manifest] = (),
    adoption: Adoption | None = None,
    training: ObservedTraining | None = None,
    alias: ObservedAlias | None = None,
) -> ReconcilePlan:
    """Compare the desired with the observed state and return the plan.

    ``services`` and ``autoscalers`` are all those of the model; ``adoption`` is the state of an
    unpinned version's adoption; ``training`` has the CronJobs of its training. ``wanted`` is the
    version of the alias, or that of an active rollback.
    """
    training = training or ObservedTraining()
    alias = alias or ObservedAlias()
    if model.metadata.deletion_timestamp:
        return finalize(model, services, autoscalers, now, training)
    by_version = {service.version: service for service in services}
    readiness = assess_readiness(model, wanted, by_version, adoption)
    traffic = [refreshed(target, by_version.get(target.version)) for target in model.status.traffic]
    traffic = fail_over(traffic, by_version, now)
    if isinstance(wanted, RegisteredVersion):
        if readiness.passed:
            steps = () if active(model, alias) else model.spec.rollout.steps
            traffic = advance(model, traffic, wanted, by_version[wanted.version], now, steps)
        else:
            traffic = without_broken(traffic, wanted.version, by_version)
    traffic = expire(model, traffic, now)
    pins = pinned(traffic, wanted)
    actions: list[Action] = [*ensured(model, pins, services, autoscalers), *readiness.actions]
    if isinstance(wanted, RegisteredVersion):
        actions += removals(pins, services, autoscalers)
    actions += (*cancellations(alias), *plan_move(model, alias))
    trained = plan_training(model, training)
    rollback = status_of(model, alias, wanted, readiness, traffic)
    problem = problem_of(rollback, alias) or trained.problem
    status = ModelStatus(
        observed_generation=model.metadata.generation,
        traffic=traffic,
        conditions=conditions(model.status, traffic, readiness, by_version, now, problem),
        alias_version=alias.version,
        rollback=rollback,
        unpromoted=_unpromoted(model, alias, wanted, traffic, now),
    )
    done = [*actions, *trained.actions]
    return ReconcilePlan(
        tuple(actions),
        status,
        (
            *events(model.status, status, done, by_version),
            *events_of(model.status.rollback, rollback),
            *_ungated(model, status),
        ),
        training=trained.actions,
    )


def _unpromoted(
    model: Model,
    alias: ObservedAlias,
    wanted: RegisteredVersion | RegistryError,
    traffic: Sequence[TrafficTarget],
    now: datetime,
) -> UnpromotedVersion | None:
    """Return the version of the alias if it takes traffic without having passed a gate."""
    known = model.status.unpromoted
    if isinstance(wanted, RegistryError) or active(model, alias):
        return known
    if wanted.promoted:
        return None
    if known and known.version == wanted.version:
        return known
    if all(target.version != wanted.version or not target.percent for target in traffic):
        return None
    return UnpromotedVersion(version=wanted.version, since=now)


def _ungated(model: Model, after: ModelStatus) -> Iterator[ModelEvent]:
    """Report a version that takes traffic without having passed a gate, once for each move."""
    found = after.unpromoted
    if found is None or found == model.status.unpromoted:
        return
    yield ModelEvent(
        "PromotionMissing",
        f"version {found.version} serves, to which the alias {model.spec.alias} was moved "
        "without a promotion; spec.gate.required would refuse it",
        warning=True,
    )


def finalize(
    model: Model,
    services: Sequence[Service],
    autoscalers: Sequence[Manifest],
    now: datetime,
    training: ObservedTraining,
) -> ReconcilePlan:
    """Return the plan for a deleted Model.

    Its trainings end, its traffic drains, then its objects are deleted.
    """
    traffic = expire(model, suspended(model.status.traffic, now), now)
    actions = removals(pinned(traffic, None), services, autoscalers)
    left = len(traffic) + len(services)
    if traffic:
        message = f"draining {len(traffic)} versions"
    else:
        message = "deleting its predictors" if services else "all objects are deleted"
    going = (False, "Deleting", "the Model is being deleted")
    states = with_transition_times(
        model.status,
        ready=going,
        progressing=(left > 0, "Deleting", message),
        degraded=(True, "ClusterRefused", f"the training: {training.refused}")
        if training.refused
        else (False, "Deleting", ""),
        now=now,
    )
    status = ModelStatus(
        observed_generation=model.metadata.generation, traffic=traffic, conditions=states
    )
    return ReconcilePlan(
        tuple(actions),
        status,
        events(model.status, status, actions),
        training=training_removals(training),
        over=left == 0 and not autoscalers and not training.owned,
    )


def pinned(
    traffic: Sequence[TrafficTarget], wanted: RegisteredVersion | RegistryError | None
) -> dict[str, str]:
    """Return the digest of each version that needs a predictor.

    The digest of a version that is served never changes.
    """
    pins = {wanted.version: wanted.digest} if isinstance(wanted, RegisteredVersion) else {}
    return pins | {target.version: target.digest for target in traffic}


def ensured(
    model: Model,
    pins: Mapping[str, str],
    services: Sequence[Service],
    autoscalers: Sequence[Manifest],
) -> list[Apply]:
    """Return the actions that create missing objects and restore changed or deleted ones."""
    found = {
        (m["kind"], m["metadata"]["name"]): m
        for m in (*(s.manifest for s in services), *autoscalers)
    }
    # When the Model itself has changed, its objects differ for that reason.
    settled = model.status.observed_generation == model.metadata.generation
    known = {target.version for target in model.status.traffic} if settled else set()
    result = []
    for version, digest in pins.items():
        for manifest in (desired(model, version, digest), desired_autoscaler(model, version)):
            actual = found.get((manifest["kind"], manifest["metadata"]["name"]))
            if actual is None:
                drift = "was deleted; it is created again"
                result.append(Apply(manifest, drift if version in known else ""))
            elif not terminating(actual) and (changed := changes(actual, manifest)):
                drift = f"was changed ({', '.join(changed)}); it is restored"
                result.append(Apply(manifest, drift if version in known else ""))
    return result


def removals(
    pins: Mapping[str, str], services: Sequence[Service], autoscalers: Sequence[Manifest]
) -> list[Delete]:
    """Return the deletions of objects that no version needs, except those being deleted."""
    gone = [
        Delete(INFERENCE_SERVICE, s.name)
        for s in services
        if s.version not in pins and not terminating(s.manifest)
    ]
    for manifest in autoscalers:
        version = manifest["metadata"].get("labels", {}).get(labels.VERSION)
        if version not in pins and not terminating(manifest):
            gone.append(Delete(HORIZONTAL_POD_AUTOSCALER, manifest["metadata"]["name"]))
    return gone
