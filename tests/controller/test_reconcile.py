"""The rollout, as a table of situations and as a property test of random sequences."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_cluster import HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, Manifest
from slipway_contract.model import ConditionType, Model, ModelStatus
from slipway_contract.registry import digest_of
from slipway_controller.action import Adopt, Apply, Delete, Smoke
from slipway_controller.adoption import Adoption
from slipway_controller.autoscaler import desired_autoscaler
from slipway_controller.diagnosis import Diagnosis, load_failure
from slipway_controller.events import ModelEvent
from slipway_controller.inference_service import PASSED, Replacement, Service, desired
from slipway_controller.reconcile import ReconcilePlan, reconcile
from slipway_controller.registry import RegisteredVersion, RegistryError, Unpinned

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST_REFUSED = "model.onnx: digest mismatch"


def model(**rollout: object) -> Model:
    spec = {
        "registeredModel": "heart",
        "rollout": {"drainSeconds": 10, "previousKept": 1, **rollout},
    }
    return Model.model_validate({"metadata": {"name": "heart", "generation": 1}, "spec": spec})


def version(number: str) -> RegisteredVersion:
    return RegisteredVersion("heart", number, digest_of(number.encode()), f"run-{number}")


@dataclass
class World:
    """A Model, its InferenceServices and a clock; ``turn`` executes the plan as KServe would."""

    model: Model
    wanted: RegisteredVersion | RegistryError
    services: dict[str, Service] = field(default_factory=dict)
    autoscalers: dict[str, Manifest] = field(default_factory=dict)
    adoption: Adoption | None = None
    now: datetime = NOON
    plan: ReconcilePlan | None = None
    recorded: list[ModelEvent] = field(default_factory=list)

    def reconcile(self) -> ReconcilePlan:
        services, autoscalers = list(self.services.values()), list(self.autoscalers.values())
        return reconcile(self.model, self.wanted, services, self.now, autoscalers, self.adoption)

    def turn(self, seconds: float = 1, smoke: str = PASSED) -> "World":
        self.now += timedelta(seconds=seconds)
        self.plan = self.reconcile()
        self.recorded += self.plan.events
        for action in self.plan.actions:
            match action:
                case Apply(manifest) if manifest["kind"] == "HorizontalPodAutoscaler":
                    self.autoscalers[manifest["metadata"]["name"]] = manifest
                case Apply(manifest):
                    name = manifest["metadata"]["name"]
                    known = self.services.get(name) or Service(
                        name, name.removeprefix("heart-"), manifest
                    )
                    self.services[name] = replace(known, manifest=manifest)
                case Delete(kind, name):
                    del (self.services if kind == INFERENCE_SERVICE else self.autoscalers)[name]
                case Smoke(service):
                    self.services[service.name] = replace(service, smoke=smoke)
        self.model = self.model.model_copy(update={"status": self.plan.status})
        return self

    def ready(self, number: str, ready: bool = True) -> "World":
        name = f"heart-{number}"
        self.services[name] = replace(
            self.services[name], ready=ready, url=f"http://heart-{number}", diagnosis=None
        )
        return self

    def failed(self, number: str, why: str = DIGEST_REFUSED) -> "World":
        return self.diagnosed(number, load_failure(why))

    def diagnosed(self, number: str, diagnosis: Diagnosis) -> "World":
        name = f"heart-{number}"
        self.services[name] = replace(self.services[name], ready=False, diagnosis=diagnosis)
        return self

    def rolled_out(self, number: str) -> "World":
        self.wanted = version(number)
        return self.turn().ready(number).turn().turn()

    def replacing(self, number: str, diagnosis: Diagnosis | None = None) -> "World":
        """Replace the version's pods, which the example has to be sent to again."""
        name, going = f"heart-{number}", Replacement("kserve-container is running", diagnosis)
        self.services[name] = replace(self.services[name], replacement=going, smoke=None)
        return self

    def replaced(self, number: str) -> "World":
        name = f"heart-{number}"
        self.services[name] = replace(self.services[name], replacement=None, replaced=True)
        return self

    @property
    def traffic(self) -> list[tuple[str, str, int]]:
        return [(t.version, str(t.role), t.percent) for t in self.model.status.traffic]

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        found = self.model.status.condition(kind)
        assert found is not None
        return found.status, found.reason


def applied(world: World) -> list[str]:
    assert world.plan
    manifests = [action.manifest for action in world.plan.actions if isinstance(action, Apply)]
    return [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in manifests]


def test_a_promoted_version_serves_only_after_ready_and_a_smoke_prediction() -> None:
    world = World(model(), version("1")).turn()
    assert applied(world) == ["InferenceService heart-1", "HorizontalPodAutoscaler heart-1"]
    assert world.condition(ConditionType.READY) == ("False", "Creating")
    assert world.turn().condition(ConditionType.PROGRESSING) == ("True", "WaitingForPredictor")
    world.ready("1").turn()
    assert world.traffic == []
    assert world.condition(ConditionType.PROGRESSING) == ("True", "SmokePrediction")
    world.turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.reconcile().actions == ()


def test_the_new_version_takes_over_and_the_old_one_drains_and_is_deleted() -> None:
    world = World(model(previousKept=0), version("1")).rolled_out("1").rolled_out("2")
    assert world.traffic == [("2", "live", 100), ("1", "draining", 0)]
    assert set(world.turn(5).services) == {"heart-1", "heart-2"}
    assert set(world.turn(5).services) == {"heart-2"}
    assert world.traffic == [("2", "live", 100)]


def test_a_kept_version_makes_rollback_instant() -> None:
    world = World(model(steps=[10, 50]), version("1")).rolled_out("1").rolled_out("2")
    world.turn(60).turn(60)
    assert world.traffic == [("2", "live", 100), ("1", "previous", 0)]
    world.wanted = version("1")
    assert world.turn().traffic == [("1", "live", 100), ("2", "previous", 0)]


def test_traffic_moves_in_the_steps_of_the_rollout() -> None:
    world = (
        World(model(steps=[10, 50], stepSeconds=60), version("1")).rolled_out("1").rolled_out("2")
    )
    assert world.traffic == [("1", "live", 90), ("2", "canary", 10)]
    assert world.turn(30).traffic == [("1", "live", 90), ("2", "canary", 10)]
    assert world.turn(60).traffic == [("1", "live", 50), ("2", "canary", 50)]
    assert world.condition(ConditionType.PROGRESSING) == ("True", "RollingOut")
    assert world.turn(60).traffic == [("2", "live", 100), ("1", "previous", 0)]


def test_a_canary_is_cancelled_when_the_alias_moves_back() -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2")
    world.wanted = version("1")
    assert world.turn().traffic == [("1", "live", 100), ("2", "draining", 0)]
    assert set(world.turn(10).services) == {"heart-1"}


def test_a_third_version_ends_the_canary_of_the_second() -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2").rolled_out("3")
    assert world.traffic == [("1", "live", 90), ("2", "draining", 0), ("3", "canary", 10)]


def test_a_canary_that_fails_returns_its_traffic() -> None:
    world = (
        World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2").failed("2").turn()
    )
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestMismatch")


@pytest.mark.parametrize(
    ("why", "reason"), [(DIGEST_REFUSED, "DigestMismatch"), ("graph is broken", "ModelLoadFailed")]
)
def test_a_version_that_cannot_load_leaves_traffic_unchanged_and_reports_the_reason(
    why: str, reason: str
) -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = version("2")
    world.turn().failed("2", why).turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", reason)
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    degraded = world.model.status.condition(ConditionType.DEGRADED)
    assert degraded
    assert why in degraded.message


def test_a_version_with_a_failed_smoke_prediction_gets_no_traffic_and_is_retried() -> None:
    world = (
        World(model(), version("1"))
        .turn()
        .ready("1")
        .turn(smoke="its own example was answered with 500")
    )
    world.turn(smoke="its own example was answered with 500")
    assert world.traffic == []
    assert world.condition(ConditionType.DEGRADED) == ("True", "SmokePredictionFailed")
    assert world.turn().turn().traffic == [("1", "live", 100)]


def test_a_live_version_whose_bytes_changed_falls_back_to_the_kept_one() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2").failed("2").turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestMismatch")


REGISTRY_ANSWERS: list[RegisteredVersion | RegistryError] = [
    RegistryError("RegistryUnreachable", "MLflow does not answer"),
    RegistryError("AliasNotFound", "the registry has no heart: it was deleted"),
    Unpinned("heart", "3"),
    RegisteredVersion("heart", "3", digest_of(b"3")),
]


@pytest.mark.parametrize("wanted", REGISTRY_ANSWERS, ids=["away", "deleted", "unpinned", "another"])
def test_a_broken_live_version_fails_over_to_the_kept_one_in_any_state_of_the_registry(
    wanted: RegisteredVersion | RegistryError,
) -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2")
    world.wanted = wanted
    world.turn().failed("2").turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert (
        ModelEvent("DigestMismatch", f"version 2: {DIGEST_REFUSED}", warning=True) in world.recorded
    )
    assert ModelEvent("TrafficMoved", "version 1 live 100 %") in world.recorded


@pytest.mark.parametrize("wanted", REGISTRY_ANSWERS[:2], ids=["away", "deleted"])
def test_a_canary_that_stops_answering_returns_its_share_while_the_registry_is_unavailable(
    wanted: RegisteredVersion | RegistryError,
) -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2")
    world.wanted = wanted
    assert world.turn().traffic == [("1", "live", 90), ("2", "canary", 10)]
    assert world.ready("2", ready=False).turn().traffic == [("1", "live", 100)]


def test_a_live_version_that_breaks_in_a_rollout_fails_over_to_the_previous_one() -> None:
    world = (
        World(model(steps=[10]), version("1"))
        .rolled_out("1")
        .rolled_out("2")
        .turn(60)
        .rolled_out("3")
    )
    assert world.traffic == [("2", "live", 90), ("1", "previous", 0), ("3", "canary", 10)]
    assert world.failed("2").turn().traffic == [("1", "live", 90), ("3", "canary", 10)]
    assert world.turn(60).traffic == [("3", "live", 100), ("1", "previous", 0)]


def test_without_a_kept_version_a_canary_takes_over_from_a_live_version_that_breaks() -> None:
    world = World(model(steps=[10], previousKept=0), version("1")).rolled_out("1").rolled_out("2")
    world.wanted = REGISTRY_ANSWERS[0]
    assert world.turn().failed("1").turn().traffic == [("2", "live", 100)]


def test_a_role_of_a_later_release_drains_when_the_live_version_is_the_wanted_one() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2")
    status = world.model.status.manifest()
    status["traffic"][0]["percent"], status["traffic"][1] = (
        80,
        {**status["traffic"][1], "role": "mirror", "percent": 20},
    )
    world.model = Model.model_validate({**world.model.manifest(), "status": status})
    assert world.turn().traffic == [("2", "live", 100), ("1", "draining", 0)]


def test_without_a_kept_version_a_broken_live_one_is_reported() -> None:
    world = World(model(previousKept=0), version("1")).rolled_out("1").failed("1").turn()
    assert world.condition(ConditionType.READY) == ("False", "DigestMismatch")


def test_a_predictor_that_restarts_stays_live() -> None:
    world = (
        World(model(), version("1")).rolled_out("1").rolled_out("2").ready("2", ready=False).turn()
    )
    assert world.traffic == [("2", "live", 100), ("1", "previous", 0)]
    assert world.condition(ConditionType.READY) == ("False", "PredictorNotReady")


def test_while_the_registry_is_unavailable_nothing_moves_and_nothing_is_removed() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = RegistryError("RegistryUnreachable", "MLflow does not answer")
    assert world.turn(3600).plan.actions == ()  # type: ignore[union-attr]
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "RegistryUnreachable")


def test_another_digest_for_the_live_version_is_rejected() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = replace(version("1"), digest=digest_of(b"other"))
    world.turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestChanged")


def test_a_hand_edited_inference_service_is_repaired() -> None:
    world = World(model(), version("1")).rolled_out("1")
    service = world.services["heart-1"]
    edited = {
        **service.manifest,
        "spec": {
            "predictor": {**service.manifest["spec"]["predictor"], "model": {"runtime": "other"}}
        },
    }
    world.services["heart-1"] = replace(service, manifest=edited)
    (repair,) = world.reconcile().actions
    assert isinstance(repair, Apply)
    assert repair.manifest == desired(world.model, "1", version("1").digest)
    (event,) = world.reconcile().events
    assert (event.reason, event.warning) == ("Repaired", True)
    assert "spec.predictor.model.runtime" in event.message


def test_a_deleted_inference_service_of_the_live_version_is_created_again() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.services.clear()
    assert set(world.turn().services) == {"heart-1"}
    assert world.recorded[-1].reason != "Repaired"
    assert (
        ModelEvent(
            "Repaired", "InferenceService heart-1 was deleted; it is created again", warning=True
        )
        in world.recorded
    )


def test_an_inference_service_that_is_being_deleted_causes_no_action() -> None:
    world = World(model(), version("1")).rolled_out("1")
    service = world.services["heart-1"]
    going = {
        **service.manifest,
        "metadata": {**service.manifest["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z"},
    }
    world.services["heart-1"] = replace(service, manifest=going, ready=False)
    assert world.reconcile().actions == ()


def test_the_autoscaler_of_a_version_targets_its_deployment_and_is_repaired_too() -> None:
    world = World(model(), version("1")).rolled_out("1")
    assert world.autoscalers["heart-1"]["spec"]["scaleTargetRef"]["name"] == "heart-1-predictor"
    world.autoscalers["heart-1"] = {**world.autoscalers["heart-1"], "spec": {"maxReplicas": 50}}
    world.turn()
    assert applied(world) == ["HorizontalPodAutoscaler heart-1"]
    assert "HorizontalPodAutoscaler heart-1 was changed" in world.recorded[-1].message


def test_a_new_scale_changes_only_the_autoscaler_and_is_not_reported_as_a_repair() -> None:
    world = World(model(), version("1")).rolled_out("1")
    spec = {**world.model.spec.manifest(), "scale": {"minReplicas": 2, "maxReplicas": 5}}
    changed = {
        "metadata": {"name": "heart", "generation": 2},
        "spec": spec,
        "status": world.model.status.manifest(),
    }
    world.model = Model.model_validate(changed)
    (action,) = world.reconcile().actions
    assert action == Apply(desired_autoscaler(world.model, "1"))
    assert world.reconcile().events == ()


def with_predictor(world: World, generation: int, **predictor: object) -> World:
    spec = {**world.model.spec.manifest(), "predictor": predictor}
    changed = {
        "metadata": {"name": "heart", "generation": generation},
        "spec": spec,
        "status": world.model.status.manifest(),
    }
    world.model = Model.model_validate(changed)
    return world


def test_a_changed_predictor_is_applied_to_each_version_and_is_not_reported_as_a_repair() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2")
    with_predictor(world, 2, runtime="other", podLabels={"example.org/team": "risk"}).turn()
    assert applied(world) == ["InferenceService heart-2", "InferenceService heart-1"]
    assert "Repaired" not in [event.reason for event in world.recorded]
    assert world.traffic == [("2", "live", 100), ("1", "previous", 0)]
    with_predictor(world, 3).turn()
    assert applied(world) == ["InferenceService heart-2", "InferenceService heart-1"]
    assert world.reconcile().actions == ()


def test_a_version_keeps_its_traffic_while_its_pods_are_replaced_and_then_answers_again() -> None:
    world = World(model(), version("1")).rolled_out("1").replacing("1").turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.condition(ConditionType.PROGRESSING) == ("True", "ReplacingPods")
    assert world.replaced("1").turn().condition(ConditionType.PROGRESSING) == (
        "True",
        "SmokePrediction",
    )
    service = world.services["heart-1"]
    assert service.smoke == PASSED
    world.services["heart-1"] = replace(service, replaced=False)
    assert world.turn().condition(ConditionType.PROGRESSING) == ("False", "Serving")
    assert world.reconcile().actions == ()


def test_changed_pods_that_do_not_start_are_reported_while_the_former_ones_answer() -> None:
    world = World(model(), version("1")).rolled_out("1").replacing("1", NO_GPU).turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.condition(ConditionType.DEGRADED) == ("True", "Unschedulable")
    degraded = world.model.status.condition(ConditionType.DEGRADED)
    assert degraded
    assert "version 1 answers from its former pods; the changed ones: 0/3" in degraded.message


def test_changed_pods_that_do_not_answer_the_example_are_reported() -> None:
    world = World(model(), version("1")).rolled_out("1").replacing("1").turn().replaced("1")
    world.turn(smoke="another shape").turn(smoke="another shape")
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "SmokePredictionFailed")
    assert world.plan
    assert [type(action) for action in world.plan.actions] == [Smoke]


def test_a_canary_gets_no_more_traffic_while_its_pods_are_replaced() -> None:
    world = World(model(steps=[10, 50]), version("1")).rolled_out("1").rolled_out("2")
    held = [("1", "live", 90), ("2", "canary", 10)]
    assert world.replacing("2").turn(60).traffic == held
    assert world.replacing("2", NO_GPU).turn(60).traffic == held
    assert world.replaced("2").turn(60, smoke="no").traffic == held
    assert world.turn(60).traffic == held
    world.services["heart-2"] = replace(world.services["heart-2"], replaced=False)
    assert world.turn(60).traffic == [("1", "live", 50), ("2", "canary", 50)]


def test_a_rollback_does_not_wait_for_pods_that_cannot_be_replaced() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2").replacing("1", NO_GPU)
    world.wanted = version("1")
    assert world.turn().traffic == [("1", "live", 100), ("2", "previous", 0)]


def test_the_autoscaler_is_deleted_with_its_version() -> None:
    world = World(model(previousKept=0), version("1")).rolled_out("1").rolled_out("2").turn(10)
    assert set(world.autoscalers) == {"heart-2"}


def test_additional_fields_of_an_inference_service_are_not_repaired() -> None:
    world = World(model(), version("1")).rolled_out("1")
    service = world.services["heart-1"]
    predictor = service.manifest["spec"]["predictor"]
    added = {
        **service.manifest,
        "spec": {
            "predictor": {**predictor, "model": {**predictor["model"], "protocolVersion": "v2"}}
        },
    }
    world.services["heart-1"] = replace(service, manifest=added)
    assert world.reconcile().actions == ()


def deleted(world: World) -> World:
    metadata = {"name": "heart", "generation": 2, "deletionTimestamp": "2026-01-01T12:00:00Z"}
    world.model = Model.model_validate({**world.model.manifest(), "metadata": metadata})
    return world


def test_a_deleted_model_loses_its_traffic_first_and_its_predictors_after_draining() -> None:
    world = deleted(World(model(), version("1")).rolled_out("1").rolled_out("2")).turn()
    assert world.traffic == [("2", "draining", 0), ("1", "draining", 0)]
    assert world.plan
    assert world.plan.actions == ()
    assert not world.plan.over
    assert world.condition(ConditionType.READY) == ("False", "Deleting")
    world.turn(10)
    assert world.plan.actions == tuple(
        Delete(kind, f"heart-{n}")
        for kind in (INFERENCE_SERVICE, HORIZONTAL_POD_AUTOSCALER)
        for n in (1, 2)
    )
    assert not world.plan.over
    assert world.reconcile().over
    assert not any(event.warning for event in world.recorded)


def test_a_model_is_deleted_while_the_registry_is_unavailable() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = RegistryError("RegistryUnreachable", "away")
    deleted(world).turn().turn(10)
    assert world.reconcile().over


NO_IMAGE = Diagnosis("ImagePullFailed", "kserve-container has no image x: not found")
NO_GPU = Diagnosis("Unschedulable", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
CRASHES = Diagnosis(
    "CrashLoop", "kserve-container ended with exit status 1 (3 restarts)", lasting=True
)


def test_pods_that_do_not_start_are_reported_in_the_conditions_and_move_no_traffic() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = version("2")
    world.turn().diagnosed("2", NO_IMAGE).turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "ImagePullFailed")
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    world.rolled_out("2")
    assert world.condition(ConditionType.DEGRADED) == ("False", "UpToDate")


def test_a_live_version_survives_a_short_failure_and_fails_over_when_it_keeps_crashing() -> None:
    world = (
        World(model(), version("1")).rolled_out("1").rolled_out("2").diagnosed("2", NO_IMAGE).turn()
    )
    assert world.traffic == [("2", "live", 100), ("1", "previous", 0)]
    assert world.condition(ConditionType.READY) == ("False", "ImagePullFailed")
    world.diagnosed("2", CRASHES).turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")


def test_a_canary_that_stops_answering_returns_its_traffic_and_may_start_again() -> None:
    world = (
        World(model(steps=[10]), version("1"))
        .rolled_out("1")
        .rolled_out("2")
        .ready("2", ready=False)
        .turn()
    )
    assert world.traffic == [("1", "live", 100)]
    assert world.ready("2").turn().traffic == [("1", "live", 90), ("2", "canary", 10)]


def test_a_rollout_records_four_events_and_then_none() -> None:
    world = World(model(), version("1")).rolled_out("1")
    for _ in range(20):
        world.turn()
    assert [event.reason for event in world.recorded] == [
        "Creating",
        "SmokePrediction",
        "Serving",
        "TrafficMoved",
    ]
    assert world.recorded[-1].message == "version 1 live 100 %"
    assert not any(event.warning for event in world.recorded)


def test_a_failure_is_recorded_once_as_a_warning_and_so_is_its_end() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = version("2")
    world.turn().diagnosed("2", NO_IMAGE)
    del world.recorded[:]
    for _ in range(5):
        world.turn()
    assert world.recorded == [
        ModelEvent("ImagePullFailed", f"version 2: {NO_IMAGE.message}", warning=True)
    ]
    world.wanted = version("1")
    world.turn()
    assert ModelEvent("Recovered", "no longer ImagePullFailed") in world.recorded


UNPINNED = Unpinned("heart", "2")


def test_a_job_adopts_a_version_logged_by_hand_while_the_live_one_serves() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted, world.adoption = UNPINNED, Adoption("due")
    assert world.reconcile().actions == (Adopt("adopt-heart-2", "heart", "2"),)
    world.adoption = Adoption("running")
    assert world.turn().plan.actions == ()  # type: ignore[union-attr]
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.PROGRESSING) == ("True", "Adopting")
    assert world.rolled_out("2").traffic == [("2", "live", 100), ("1", "previous", 0)]


@pytest.mark.parametrize(
    ("adoption", "reason", "part"),
    [
        (
            Adoption("failed", "it was logged as sklearn"),
            "AdoptionFailed",
            "it was logged as sklearn",
        ),
        (
            Adoption("failed"),
            "AdoptionFailed",
            "see its log (Job adopt-heart-2; delete it to try again)",
        ),
        (Adoption("impossible"), "DigestMissing", "python -m slipway_jobs adopt heart 2"),
    ],
)
def test_a_failed_adoption_is_reported_with_its_reason(
    adoption: Adoption, reason: str, part: str
) -> None:
    world = World(model(), UNPINNED, adoption=adoption).turn()
    assert world.condition(ConditionType.DEGRADED) == ("True", reason)
    degraded = world.model.status.condition(ConditionType.DEGRADED)
    assert degraded
    assert part in degraded.message
    assert world.reconcile().actions == ()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["promote", "ready", "unready", "fail", "wait", "registry away", "smoke fails"]
        ),
        st.sampled_from(["1", "2", "3"]),
        st.integers(1, 90),
    ),
    max_size=40,
)


@given(EVENTS, st.sampled_from([[], [10], [10, 50]]), st.integers(0, 2))
def test_shares_add_up_to_100_and_traffic_never_moves_to_a_version_that_does_not_answer(
    events: Sequence[tuple[str, str, int]], steps: list[int], kept: int
) -> None:
    world = World(model(steps=steps, previousKept=kept), version("1")).rolled_out("1")
    for event, number, seconds in events:
        known = f"heart-{number}" in world.services
        match event:
            case "promote":
                world.wanted = version(number)
            case "registry away":
                world.wanted = RegistryError("RegistryUnreachable", "away")
            case "ready" if known:
                world.ready(number)
            case "unready" if known:
                world.ready(number, ready=False)
            case "fail" if known:
                world.failed(number)
        before = world.model.status.traffic
        world.turn(seconds, smoke="no" if event == "smoke fails" else PASSED)
        after = world.model.status.traffic
        assert sum(t.percent for t in after) == 100
        assert [str(t.role) for t in after].count("live") == 1
        assert len({t.version for t in after}) == len(after)
        assert all(f"heart-{t.version}" in world.services for t in after)
        gained = {t.version for t in after if t.percent} - {t.version for t in before if t.percent}
        assert all(world.services[f"heart-{v}"].ready for v in gained)
        assert ModelStatus.model_validate(world.model.status.manifest()) == world.model.status
