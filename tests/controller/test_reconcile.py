"""The rollout, as a table of situations and as a walk through random worlds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_contract.model import ConditionType, Model, ModelStatus
from slipway_contract.registry import digest_of
from slipway_controller.inference_service import PASSED, Service, desired
from slipway_controller.reconcile import Apply, Delete, Plan, Smoke, reconcile
from slipway_controller.registry import RegisteredVersion, RegistryError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DIGEST_REFUSED = "model.onnx: digest mismatch"


def model(**rollout: object) -> Model:
    spec = {"registeredModel": "heart", "rollout": {"drainSeconds": 10, "previousKept": 1, **rollout}}
    return Model.model_validate({"metadata": {"name": "heart", "generation": 1}, "spec": spec})


def version(number: str) -> RegisteredVersion:
    return RegisteredVersion("heart", number, digest_of(number.encode()), f"run-{number}")


@dataclass
class World:
    """A Model, its InferenceServices and a clock; ``turn`` does what the plan says, as KServe would."""

    model: Model
    wanted: RegisteredVersion | RegistryError
    services: dict[str, Service] = field(default_factory=dict)
    now: datetime = NOON
    plan: Plan | None = None

    def look(self) -> Plan:
        return reconcile(self.model, self.wanted, list(self.services.values()), self.now)

    def turn(self, seconds: float = 1, smoke: str = PASSED) -> "World":
        self.now += timedelta(seconds=seconds)
        self.plan = self.look()
        for action in self.plan.actions:
            match action:
                case Apply(manifest):
                    name = manifest["metadata"]["name"]
                    known = self.services.get(name) or Service(name, name.removeprefix("heart-"), manifest)
                    self.services[name] = replace(known, manifest=manifest)
                case Delete(name):
                    del self.services[name]
                case Smoke(service):
                    self.services[service.name] = replace(service, smoke=smoke)
        self.model = self.model.model_copy(update={"status": self.plan.status})
        return self

    def ready(self, number: str, ready: bool = True) -> "World":
        name = f"heart-{number}"
        self.services[name] = replace(self.services[name], ready=ready, url=f"http://heart-{number}", failure=None)
        return self

    def failed(self, number: str, why: str = DIGEST_REFUSED) -> "World":
        name = f"heart-{number}"
        self.services[name] = replace(self.services[name], ready=False, failure=why)
        return self

    def rolled_out(self, number: str) -> "World":
        self.wanted = version(number)
        return self.turn().ready(number).turn().turn()

    @property
    def traffic(self) -> list[tuple[str, str, int]]:
        return [(t.version, str(t.role), t.percent) for t in self.model.status.traffic]

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        found = self.model.status.condition(kind)
        assert found is not None
        return found.status, found.reason


def test_a_promoted_version_serves_only_after_ready_and_a_smoke_prediction() -> None:
    world = World(model(), version("1")).turn()
    assert [type(a) for a in world.plan.actions] == [Apply]  # type: ignore[union-attr]
    assert world.condition(ConditionType.READY) == ("False", "Creating")
    assert world.turn().condition(ConditionType.PROGRESSING) == ("True", "WaitingForPredictor")
    world.ready("1").turn()
    assert world.traffic == []
    assert world.condition(ConditionType.PROGRESSING) == ("True", "SmokePrediction")
    world.turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.look().actions == ()


def test_the_new_version_takes_over_and_the_old_one_drains_and_goes() -> None:
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
    world = World(model(steps=[10, 50], stepSeconds=60), version("1")).rolled_out("1").rolled_out("2")
    assert world.traffic == [("1", "live", 90), ("2", "canary", 10)]
    assert world.turn(30).traffic == [("1", "live", 90), ("2", "canary", 10)]
    assert world.turn(60).traffic == [("1", "live", 50), ("2", "canary", 50)]
    assert world.condition(ConditionType.PROGRESSING) == ("True", "RollingOut")
    assert world.turn(60).traffic == [("2", "live", 100), ("1", "previous", 0)]


def test_a_canary_is_called_off_when_the_alias_moves_back() -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2")
    world.wanted = version("1")
    assert world.turn().traffic == [("1", "live", 100), ("2", "draining", 0)]
    assert set(world.turn(10).services) == {"heart-1"}


def test_a_third_version_ends_the_canary_of_the_second() -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2").rolled_out("3")
    assert world.traffic == [("1", "live", 90), ("2", "draining", 0), ("3", "canary", 10)]


def test_a_canary_that_fails_gives_its_traffic_back() -> None:
    world = World(model(steps=[10]), version("1")).rolled_out("1").rolled_out("2").failed("2").turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestMismatch")


@pytest.mark.parametrize(("why", "reason"), [(DIGEST_REFUSED, "DigestMismatch"), ("graph is broken", "ModelLoadFailed")])
def test_a_version_that_cannot_load_leaves_traffic_alone_and_says_why(why: str, reason: str) -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = version("2")
    world.turn().failed("2", why).turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", reason)
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    degraded = world.model.status.condition(ConditionType.DEGRADED)
    assert degraded
    assert why in degraded.message


def test_a_failed_smoke_prediction_keeps_the_version_out_and_is_tried_again() -> None:
    world = World(model(), version("1")).turn().ready("1").turn(smoke="its own example was answered with 500")
    world.turn(smoke="its own example was answered with 500")
    assert world.traffic == []
    assert world.condition(ConditionType.DEGRADED) == ("True", "SmokePredictionFailed")
    assert world.turn().turn().traffic == [("1", "live", 100)]


def test_a_live_version_whose_bytes_changed_falls_back_to_the_kept_one() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2").failed("2").turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.READY) == ("True", "Serving")
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestMismatch")


def test_without_a_kept_version_a_broken_live_one_is_reported() -> None:
    world = World(model(previousKept=0), version("1")).rolled_out("1").failed("1").turn()
    assert world.condition(ConditionType.READY) == ("False", "DigestMismatch")


def test_a_predictor_that_restarts_stays_live() -> None:
    world = World(model(), version("1")).rolled_out("1").rolled_out("2").ready("2", ready=False).turn()
    assert world.traffic == [("2", "live", 100), ("1", "previous", 0)]
    assert world.condition(ConditionType.READY) == ("False", "PredictorNotReady")


def test_when_the_registry_is_away_nothing_moves_and_nothing_is_removed() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = RegistryError("RegistryUnreachable", "MLflow does not answer")
    assert world.turn(3600).plan.actions == ()  # type: ignore[union-attr]
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "RegistryUnreachable")


def test_another_digest_for_the_live_version_is_refused() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.wanted = replace(version("1"), digest=digest_of(b"other"))
    world.turn()
    assert world.traffic == [("1", "live", 100)]
    assert world.condition(ConditionType.DEGRADED) == ("True", "DigestChanged")


def test_a_hand_edited_inference_service_is_repaired() -> None:
    world = World(model(), version("1")).rolled_out("1")
    service = world.services["heart-1"]
    edited = {**service.manifest, "spec": {"predictor": {**service.manifest["spec"]["predictor"], "maxReplicas": 9}}}
    world.services["heart-1"] = replace(service, manifest=edited)
    assert world.look().actions == (Apply(desired(world.model, "1", version("1").digest)),)


def test_a_deleted_inference_service_of_the_live_version_comes_back() -> None:
    world = World(model(), version("1")).rolled_out("1")
    world.services.clear()
    assert set(world.turn().services) == {"heart-1"}


def test_what_others_add_to_an_inference_service_is_left_alone() -> None:
    world = World(model(), version("1")).rolled_out("1")
    service = world.services["heart-1"]
    predictor = service.manifest["spec"]["predictor"]
    added = {**service.manifest, "spec": {"predictor": {**predictor, "model": {**predictor["model"], "protocolVersion": "v2"}}}}
    world.services["heart-1"] = replace(service, manifest=added)
    assert world.look().actions == ()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["promote", "ready", "unready", "fail", "wait", "registry away", "smoke fails"]),
        st.sampled_from(["1", "2", "3"]),
        st.integers(1, 90),
    ),
    max_size=40,
)


@given(EVENTS, st.sampled_from([[], [10], [10, 50]]), st.integers(0, 2))
def test_whatever_happens_the_shares_add_up_and_a_version_that_answers_is_not_left_for_one_that_does_not(
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
