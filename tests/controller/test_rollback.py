"""Rollbacks on a local cluster: traffic, status, Events and the Job that moves the alias."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from slipway_cluster import CRON_JOB, INFERENCE_SERVICE, JOB, MODEL, Conflict, Invalid, Manifest
from slipway_contract import labels
from slipway_contract.model import ConditionType, ModelStatus, RollbackState, TrafficRole
from slipway_contract.registry import PROMOTION, Tag, digest_of
from slipway_controller.controller import Controller
from slipway_controller.registry import Registry
from slipway_local.standin.local_cluster import LocalCluster

TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}
PROMOTED = {"key": f"{PROMOTION}2026-01-01T12:00:00Z", "value": '{"alias": "champion"}'}
PROMOTE: Manifest = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "promote"},
    "spec": {
        "schedule": "@yearly",
        "suspend": True,
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "job", "image": "jobs", "args": ["promote"]}],
                    }
                }
            }
        },
    },
}


class World:
    """A Model with registered versions, all of whose predictors are ready and answer."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.alias = "1"
        self.away = False
        self.versions = {number: self.tags(number) for number in "123"}
        self.controller = Controller(
            cluster,
            Registry(
                httpx.Client(base_url="http://mlflow", transport=httpx.MockTransport(self._mlflow))
            ),
            httpx.Client(transport=httpx.MockTransport(self._predictor)),
        )
        self.declare()

    @staticmethod
    def tags(number: str) -> list[dict[str, str]]:
        return [{"key": Tag.DIGEST, "value": digest_of(number.encode())}, PROMOTED]

    def declare(self, rollback: dict[str, Any] | None = None, **spec: Any) -> None:
        fields = {"rollback": rollback} if rollback else {}
        self.cluster.apply(
            {
                "apiVersion": "serving.slipway.dev/v1alpha1",
                "kind": "Model",
                "metadata": {"name": "heart"},
                "spec": {"registeredModel": "heart", **spec, **fields},
            }
        )

    def _mlflow(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            return httpx.Response(503)
        by_number = request.url.path == "/api/2.0/mlflow/model-versions/get"
        number = request.url.params["version"] if by_number else self.alias
        if number not in self.versions:
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})
        found = {"version": number, "run_id": "run", "tags": self.versions[number]}
        return httpx.Response(200, json={"model_version": found})

    def _predictor(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host
        if request.method != "GET":
            outputs = [{**TENSOR, "name": "y"}]
            return httpx.Response(200, json={"model_name": name, "outputs": outputs})
        column = {"name": "x", "datatype": "FP32", "shape": [-1]}
        digest = digest_of(name.removeprefix("heart-").encode())
        metadata = {
            "name": name,
            "platform": "onnx",
            "inputs": [column],
            "outputs": [{**column, "name": "y"}],
        }
        parameters = {"digest": digest, "example": {"inputs": [TENSOR]}}
        return httpx.Response(200, json={**metadata, "parameters": parameters})

    def turn(self, times: int = 1) -> ModelStatus:
        """Reconcile; every InferenceService becomes ready, as KServe would make it."""
        for _ in range(times):
            for service in self.cluster.list(INFERENCE_SERVICE, {}):
                name = service["metadata"]["name"]
                ready = {"conditions": [{"type": "Ready", "status": "True"}]}
                status = {**ready, "address": {"url": f"http://{name}"}}
                if service.get("status") != status:
                    self.cluster.update_status(INFERENCE_SERVICE, name, status)
            status_after = self.controller.reconcile_model("heart")
        assert status_after
        return status_after

    def rolled_out(self, number: str) -> None:
        self.alias = number
        assert self.shares(self.turn(4)) == {number: 100}

    @staticmethod
    def shares(status: ModelStatus) -> dict[str, int]:
        return {t.version: t.percent for t in status.traffic if t.percent}

    def events(self) -> list[str]:
        found = self.cluster.events(self.cluster.get(MODEL, "heart"))
        return [each["reason"] for each in found]

    def fail(self, job: str) -> None:
        failed = {"type": "Failed", "status": "True", "reason": "x", "message": "it has failed"}
        self.cluster.update_status(JOB, job, {"conditions": [failed]})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    cluster = LocalCluster(tmp_path)
    cluster.apply(PROMOTE)
    world = World(cluster)
    world.rolled_out("1")
    world.rolled_out("2")
    yield world
    cluster.close()


def rollback(version: str, *instead_of: str, **fields: str) -> dict[str, Any]:
    return {"version": version, "insteadOf": list(instead_of), "reason": "wrong scores", **fields}


def state(status: ModelStatus) -> RollbackState | None:
    return status.rollback.state if status.rollback else None


def moves(world: World) -> list[tuple[str, str]]:
    """Return the target and the origin of each Job that moves the alias."""
    jobs = world.cluster.list(JOB)
    args = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs]
    return [(each[2], each[5]) for each in args]


def degraded(status: ModelStatus) -> tuple[str, str]:
    found = status.condition(ConditionType.DEGRADED)
    assert found
    return found.status, found.reason


def test_a_kept_version_serves_at_once_and_a_job_then_moves_the_alias(world: World) -> None:
    assert world.turn().alias_version == "2"
    world.declare(rollback("1", "2"))
    status = world.turn()
    assert world.shares(status) == {"1": 100}
    assert state(status) == RollbackState.SERVING
    world.turn(2)
    (job,) = world.cluster.list(JOB)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "promote", "heart", "1", "--alias=champion", "--rollback", "--from=2",
        "--reason=wrong scores",
    ]  # fmt: skip
    annotations = job["metadata"]["annotations"]
    assert annotations[labels.SUBMITTED_BY] == labels.CONTROLLER
    assert orjson.loads(annotations[labels.REQUEST]) == {
        "version": "1",
        "rollback": True,
        "reason": "wrong scores",
    }
    world.alias = "1"
    status = world.turn()
    assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.ENDED)
    assert len(world.cluster.list(JOB)) == 1
    assert {"RolledBack", "RollbackEnded"} <= set(world.events())
    assert degraded(status)[0] == "False"
    assert "rollback" not in world.cluster.get(MODEL, "heart")["spec"]
    assert state(world.turn()) == RollbackState.ENDED
    assert "RollbackRemoved" not in world.events()


def test_a_version_that_is_promoted_again_serves(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn()
    world.rolled_out("1")
    world.rolled_out("2")
    assert state(world.turn()) == RollbackState.ENDED
    world.declare(rollback("1", "2", requestedAt="2026-01-01T12:00:00Z"))
    status = world.turn()
    assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.SERVING)


def test_a_promotion_of_a_third_version_ends_a_rollback(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn()
    world.rolled_out("3")
    assert state(world.turn()) == RollbackState.ENDED
    assert len(world.cluster.list(JOB)) == 0


def test_a_rollback_for_another_version_of_the_alias_has_no_effect(world: World) -> None:
    world.declare(rollback("1", "3"))
    status = world.turn(2)
    assert (world.shares(status), state(status)) == ({"2": 100}, RollbackState.ENDED)
    world.rolled_out("3")
    assert state(world.turn()) == RollbackState.ENDED, "it is not armed for the future"


def test_a_rollback_of_a_rollback_holds_whenever_the_first_job_moves_the_alias(
    world: World,
) -> None:
    world.rolled_out("3")
    world.declare(rollback("2", "3"))
    world.turn(2)
    world.declare(rollback("1", "3", "2"))
    assert world.shares(world.turn(4)) == {"1": 100}
    world.alias = "2"
    status = world.turn(2)
    assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.SERVING)
    assert moves(world) == [("1", "--from=2")]


def test_a_rollback_ends_a_canary_and_ignores_the_steps(world: World) -> None:
    world.declare(rollout={"steps": [10], "stepSeconds": 3600})
    world.alias = "3"
    assert world.shares(world.turn(4)) == {"2": 90, "3": 10}
    world.declare(rollback("1", "3"), rollout={"steps": [10], "stepSeconds": 3600})
    assert world.shares(world.turn(4)) == {"1": 100}


def test_a_removed_or_replaced_rollback_has_no_job_that_moves_the_alias_later(
    world: World,
) -> None:
    world.declare(rollback("1", "2"))
    world.turn(2)
    assert moves(world) == [("1", "--from=2")]
    world.declare(rollback("3", "2", "1"))
    world.turn(4)
    assert moves(world) == [("3", "--from=2")]
    world.alias = "3"
    world.turn()
    assert moves(world) == [("3", "--from=2")], "it may not have ended yet"
    world.alias = "2"
    world.turn()
    assert moves(world) == [], "it would move the alias to 3 again"
    world.declare(rollback("1", "2"))
    world.turn(2)
    assert moves(world) == [("1", "--from=2")]
    world.declare()
    assert world.shares(world.turn()) == {"2": 100}
    assert moves(world) == []


def test_a_promotion_by_a_person_is_not_cancelled(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn()
    world.cluster.create_job(
        "promote",
        name="promote-3",
        labels={labels.PURPOSE: "promotion", labels.MODEL: "heart"},
        annotations={labels.SUBMITTED_BY: "user:marie"},
    )
    world.declare()
    world.turn(2)
    assert [job["metadata"]["name"] for job in world.cluster.list(JOB)] == ["promote-3"]


def test_a_rollback_that_fails_does_not_end_the_one_that_serves(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn(2)
    world.declare(rollback("99", "2", "1"))
    for _ in range(3):
        status = world.turn()
        assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.FAILED)
    assert status.rollback
    assert status.rollback.message.endswith("; version 1 stays live")
    assert moves(world) == []
    world.declare(rollback("1", "2"))
    status = world.turn(2)
    assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.SERVING)
    assert moves(world) == [("1", "--from=2")]


def test_a_promotion_ends_a_rollback_that_has_failed(world: World) -> None:
    world.declare(rollback("99", "2"))
    world.turn()
    world.rolled_out("3")
    assert state(world.turn()) == RollbackState.ENDED
    assert "rollback" not in world.cluster.get(MODEL, "heart")["spec"]


def test_a_rollback_that_has_ended_does_not_begin_again_without_the_status(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn()
    world.rolled_out("1")
    world.rolled_out("2")
    status = world.cluster.get(MODEL, "heart")["status"]
    del status["rollback"]
    world.cluster.update_status(MODEL, "heart", status)
    assert world.shares(world.turn(3)) == {"2": 100}
    assert moves(world) == []


def test_a_field_that_was_changed_meanwhile_is_not_removed(world: World) -> None:
    world.declare(rollback("1", "2"))
    declared = world.cluster.get(MODEL, "heart")["spec"]["rollback"]
    world.declare(rollback("1", "3"))
    with pytest.raises(Conflict, match=r"spec\.rollback of Model heart was changed"):
        world.cluster.remove_field(MODEL, "heart", "rollback", declared)


def test_an_alias_that_was_moved_again_after_the_job_ends_the_rollback(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn(2)
    (job,) = world.cluster.list(JOB)
    complete = {"conditions": [{"type": "Complete", "status": "True"}]}
    world.cluster.update_status(JOB, job["metadata"]["name"], complete)
    world.away = True
    assert state(world.turn()) == RollbackState.SERVING, "the alias was not read"
    world.away = False
    status = world.turn(3)
    assert (world.shares(status), state(status)) == ({"2": 100}, RollbackState.ENDED)
    assert status.rollback
    assert status.rollback.message.endswith("the alias champion points to version 2 again")


def test_the_job_starts_when_the_registry_answers(world: World) -> None:
    world.away = True
    world.declare(rollback("1", "2"))
    status = world.turn(3)
    assert status.rollback
    assert status.rollback.message.endswith("a Job moves the alias champion when MLflow answers")
    assert moves(world) == []
    world.away = False
    world.turn()
    assert moves(world) == [("1", "--from=2")]


def test_an_unknown_version_changes_nothing_and_is_final(world: World) -> None:
    world.declare(rollback("7", "2"))
    for _ in range(3):
        status = world.turn()
        assert world.shares(status) == {"2": 100}
        assert state(status) == RollbackState.FAILED
        assert degraded(status) == ("True", "RollbackFailed")
    assert status.rollback
    assert status.rollback.message == (
        "the registry has no name heart, version 7: name a version that exists, or remove "
        "spec.rollback; version 2 stays live"
    )
    assert world.cluster.list(JOB) == []
    world.versions["7"] = world.tags("7")
    assert world.shares(world.turn(4)) == {"2": 100}, "a version of that number is made later"
    assert world.events().count("RollbackFailed") == 1
    world.declare()
    status = world.turn()
    assert (degraded(status)[0], status.rollback) == ("False", None)


def test_a_version_that_does_not_answer_changes_nothing(world: World) -> None:
    world.versions["9"] = [{"key": Tag.DIGEST, "value": digest_of(b"another")}, PROMOTED]
    world.declare(rollback("9", "2"))
    status = world.turn(4)
    assert world.shares(status) == {"2": 100}
    assert state(status) == RollbackState.PENDING
    assert degraded(status) == ("True", "SmokePredictionFailed")
    assert status.rollback
    assert "version 9 is to serve instead of version 2: version 9: " in status.rollback.message
    assert world.cluster.list(JOB) == []


def test_a_kept_version_serves_while_the_registry_is_unavailable(world: World) -> None:
    world.away = True
    world.declare(rollback("1", "2"))
    status = world.turn()
    assert (world.shares(status), state(status)) == ({"1": 100}, RollbackState.SERVING)


def test_a_required_gate_refuses_a_former_version_that_was_never_promoted(world: World) -> None:
    gate = {"required": True}
    world.versions["3"].remove(PROMOTED)
    world.declare(rollback("3", "2"), gate=gate)
    status = world.turn(3)
    assert world.shares(status) == {"2": 100}
    assert degraded(status) == ("True", "PromotionMissing")
    assert status.rollback
    assert "was never promoted" in status.rollback.message
    world.declare(rollback("3", "2"))
    assert world.shares(world.turn(4)) == {"3": 100}
    assert world.events().count("PromotionMissing") == 1


def test_each_move_to_a_version_without_a_promotion_is_reported(world: World) -> None:
    world.versions["3"].remove(PROMOTED)
    world.rolled_out("3")
    first = world.turn().unpromoted
    assert first
    assert first.version == "3"
    world.rolled_out("2")
    assert world.turn().unpromoted is None
    world.rolled_out("3")
    second = world.turn().unpromoted
    assert second
    assert second.since > first.since
    world.away = True
    assert world.turn().unpromoted == second


def test_a_job_that_does_not_move_the_alias_is_reported_and_the_traffic_stays(
    world: World,
) -> None:
    world.declare(rollback("1", "2"))
    world.turn(2)
    (job,) = world.cluster.list(JOB)
    world.fail(job["metadata"]["name"])
    status = world.turn()
    assert world.shares(status) == {"1": 100}
    assert degraded(status) == ("True", "AliasNotMoved")
    assert status.rollback
    assert "it has failed; delete it, or run python -m slipway_jobs promote heart 1" in (
        status.rollback.message
    )
    assert len(world.cluster.list(JOB)) == 1


def test_without_a_template_the_status_has_the_command(world: World) -> None:
    world.cluster.delete(CRON_JOB, "promote")
    world.declare(rollback("1", "2"))
    status = world.turn(2)
    assert world.shares(status) == {"1": 100}
    assert degraded(status) == ("True", "AliasNotMoved")
    assert status.rollback
    assert status.rollback.message.startswith(
        "version 1 serves instead of version 2; there is no CronJob promote to move the alias: run"
    )


def test_a_removed_rollback_returns_to_the_version_of_the_alias(world: World) -> None:
    world.declare(rollback("1", "2"))
    world.turn(2)
    world.declare()
    status = world.turn()
    assert (world.shares(status), status.rollback) == ({"2": 100}, None)
    assert "RollbackRemoved" in world.events()
    assert [t.version for t in status.traffic if t.role is TrafficRole.PREVIOUS] == ["1"]


def test_a_rollback_to_a_version_that_it_replaces_is_invalid(world: World) -> None:
    with pytest.raises(Invalid, match="version 2 is in insteadOf; name another version"):
        world.declare(rollback("2", "2"))
