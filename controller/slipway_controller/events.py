"""Events of a Model: one for each transition, none while the status is unchanged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slipway_cluster import INFERENCE_SERVICE
from slipway_contract.model import Condition, ConditionType, ModelStatus, TrafficTarget

from slipway_controller.action import Action, Apply, Delete
from slipway_controller.conditions import DELETING
from slipway_controller.inference_service import Service


@dataclass(frozen=True)
class ModelEvent:
    """An Event on the Model."""

    reason: str
    message: str
    warning: bool = False


def events(
    before: ModelStatus,
    after: ModelStatus,
    actions: Sequence[Action] = (),
    by_version: Mapping[str, Service] | None = None,
) -> tuple[ModelEvent, ...]:
    """Return the Events for the changes from one status to the next, repairs and removals."""
    lost = _lost(before.traffic, after.traffic, by_version or {})
    found = [
        *_done(actions),
        *_transitions(before, after),
        *lost,
        *_moves(before.traffic, after.traffic),
    ]
    # Ready, Progressing and Degraded often change for the same reason.
    return tuple({(event.reason, event.message): event for event in reversed(found)}.values())[::-1]


def _done(actions: Sequence[Action]) -> Iterator[ModelEvent]:
    for action in actions:
        match action:
            case Apply(manifest, drift) if drift:
                name = f"{manifest['kind']} {manifest['metadata']['name']}"
                yield ModelEvent("Repaired", f"{name} {drift}", warning=True)
            case Delete(kind, name) if kind == INFERENCE_SERVICE:
                yield ModelEvent("Removed", f"InferenceService {name} has no traffic any more")


def _transitions(before: ModelStatus, after: ModelStatus) -> Iterator[ModelEvent]:
    changed = [
        c for c in after.conditions if _reason(before.condition(c.type)) != (c.status, c.reason)
    ]
    for condition in sorted(changed, key=lambda c: c.type is not ConditionType.DEGRADED):
        if condition.type is not ConditionType.DEGRADED:
            former = before.condition(ConditionType.READY)
            lost = (
                condition.type is ConditionType.READY
                and former is not None
                and former.status == "True"
            )
            yield ModelEvent(
                condition.reason,
                condition.message,
                lost and condition.status == "False" and condition.reason != DELETING,
            )
        elif condition.status == "True":
            yield ModelEvent(condition.reason, condition.message, warning=True)
        elif (
            (former := before.condition(condition.type))
            and former.status == "True"
            and condition.reason != DELETING
        ):
            yield ModelEvent("Recovered", f"no longer {former.reason}")


def _reason(condition: Condition | None) -> tuple[str, str] | None:
    return (condition.status, condition.reason) if condition else None


def _lost(
    before: Sequence[TrafficTarget],
    after: Sequence[TrafficTarget],
    by_version: Mapping[str, Service],
) -> Iterator[ModelEvent]:
    """Explain why versions lost their traffic.

    The conditions concern the wanted version, which may be another one.
    """
    left = {t.version for t in before if t.percent} - {t.version for t in after}
    for version in sorted(left):
        if (service := by_version.get(version)) and service.diagnosis:
            diagnosis = service.diagnosis
            message = f"version {version}: {diagnosis.message}"
            yield ModelEvent(diagnosis.reason, message, warning=True)


def _moves(before: Sequence[TrafficTarget], after: Sequence[TrafficTarget]) -> Iterator[ModelEvent]:
    if [_share(t) for t in before] != [_share(t) for t in after]:
        yield ModelEvent(
            "TrafficMoved", ", ".join(map(_share, after)) or "no version takes traffic"
        )


def _share(target: TrafficTarget) -> str:
    return f"version {target.version} {target.role} {target.percent} %"
