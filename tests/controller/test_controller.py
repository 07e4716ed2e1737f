"""The controller on a local cluster: requests, objects, status and Events.

MLflow and the predictors are HTTP fakes.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from slipway_cluster import (
    CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    JOB,
    MODEL,
    POD,
    ClusterError,
    Kind,
    Manifest,
    NotFound,
)
from slipway_contract.model import ConditionType, ModelStatus
from slipway_contract.registry import PROMOTION, Tag, digest_of
from slipway_controller.controller import Controller
from slipway_controller.registry import Registry
from slipway_local.standin.local_cluster import LocalCluster

from tests.support import skew

DIGEST = digest_of(b"1")
HEART = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "heart"},
    "spec": {"registeredModel": "heart"},
}
ADOPT = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "adopt"},
    "spec": {
        "schedule": "@monthly",
        "suspend": True,
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "adopt", "image": "jobs"}],
                    }
                }
            }
        },
    },
}
READY = {"conditions": [{"type": "Ready", "status": "True"}], "address": {"url": "http://heart-1"}}
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}
COLUMN = {"name": "x", "datatype": "FP32", "shape": [-1]}
METADATA = {
    "name": "heart-1", "platform": "onnxruntime_onnx", "inputs": [COLUMN], "outputs": [{**COLUMN,
    "name": "y"}],
    "parameters": {"digest": DIGEST, "example": {"inputs": [TENSOR]}},
}  # fmt: skip


PROMOTED = {"key": f"{PROMOTION}2026-01-01T12:00:00Z", "value": '{"alias": "champion"}'}


class World:
    """A local cluster with fakes of MLflow and the predictors."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.infer_status = 200
        self.tags = [{"key": Tag.DIGEST, "value": DIGEST}, PROMOTED]
        self.controller = Controller(
            cluster,
            Registry(
                httpx.Client(base_url="http://mlflow", transport=httpx.MockTransport(self._mlflow))
            ),
            httpx.Client(transport=httpx.MockTransport(self._predictor)),
        )

    def _mlflow(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/2.0/mlflow/registered-models/alias"
        return httpx.Response(
            200, json={"model_version": {"version": "1", "run_id": "run", "tags": self.tags}}
        )

    def _predictor(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=METADATA)
        return httpx.Response(
            self.infer_status, json={"model_name": "heart-1", "outputs": [{**TENSOR, "name": "y"}]}
        )

    def reconcile_model(self) -> ModelStatus:
        status = self.controller.reconcile_model("heart")
        assert status
        assert self.cluster.get(MODEL, "heart")["status"] == status.manifest()
        return status

    def reason(self, kind: ConditionType) -> tuple[str, str]:
        condition = self.reconcile_model().condition(kind)
        assert condition
        return condition.status, condition.reason

    def kserve(self, status: dict[str, Any]) -> None:
        self.cluster.update_status(INFERENCE_SERVICE, "heart-1", status)

    def events(self) -> dict[str, str]:
        return {
            event["reason"]: event["type"]
            for event in self.cluster.events(self.cluster.get(MODEL, "heart"))
        }


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    cluster = LocalCluster(tmp_path)
    cluster.apply(HEART)
    yield World(cluster)
    cluster.close()


def test_the_rollout_of_a_new_model_records_its_events(world: World) -> None:
    world.reconcile_model()
    owner = world.cluster.get(MODEL, "heart")["metadata"]["uid"]
    for kind in (INFERENCE_SERVICE, HORIZONTAL_POD_AUTOSCALER):
        assert world.cluster.get(kind, "heart-1")["metadata"]["ownerReferences"][0]["uid"] == owner
    world.kserve(READY)
    world.reconcile_model()
    assert [t.url for t in world.reconcile_model().traffic] == ["http://heart-1"]
    assert world.events().keys() == {"Creating", "SmokePrediction", "Serving", "TrafficMoved"}
    assert set(world.events().values()) == {"Normal"}


def test_a_version_whose_alias_was_moved_by_hand_is_reported_when_it_serves(world: World) -> None:
    world.tags.remove(PROMOTED)
    world.reconcile_model()
    world.kserve(READY)
    for _ in range(4):
        status = world.reconcile_model()
    assert [t.version for t in status.traffic] == ["1"]
    model = world.cluster.get(MODEL, "heart")
    (found,) = [
        each["message"]
        for each in world.cluster.events(model)
        if each["reason"] == "PromotionMissing"
    ]
    assert found.startswith("version 1 serves, to which the alias champion was moved without")
    assert world.events()["PromotionMissing"] == "Warning"
    assert status.unpromoted
    assert status.unpromoted.version == "1"
    world.tags.append(PROMOTED)
    assert world.reconcile_model().unpromoted is None


def test_a_required_gate_refuses_an_alias_that_was_moved_by_hand(world: World) -> None:
    gated = {"registeredModel": "heart", "gate": {"required": True}}
    world.cluster.apply({**HEART, "spec": gated})
    world.tags.remove(PROMOTED)
    assert world.reason(ConditionType.DEGRADED) == ("True", "PromotionMissing")
    assert world.cluster.list(INFERENCE_SERVICE, {}) == []
    world.tags.append(PROMOTED)
    world.reconcile_model()
    world.kserve(READY)
    world.reconcile_model()
    assert [t.version for t in world.reconcile_model().traffic] == ["1"]
    world.tags.remove(PROMOTED)
    assert world.reason(ConditionType.DEGRADED)[0] == "False", "a version that serves continues"


def test_an_unchanged_model_causes_no_writes(world: World) -> None:
    world.reconcile_model()
    world.kserve(READY)
    for _ in range(3):
        world.reconcile_model()
    before = world.cluster.get(MODEL, "heart")
    events = world.cluster.events(before)
    world.reconcile_model()
    assert world.cluster.get(MODEL, "heart") == before
    assert world.cluster.events(before) == events


def test_a_version_whose_example_fails_gets_no_traffic(world: World) -> None:
    world.infer_status = 500
    world.reconcile_model()
    world.kserve(READY)
    world.reconcile_model()
    assert world.reason(ConditionType.DEGRADED) == ("True", "SmokePredictionFailed")
    assert world.events()["SmokePredictionFailed"] == "Warning"


def test_the_status_has_the_failure_of_the_pods(world: World) -> None:
    world.reconcile_model()
    service = world.cluster.get(INFERENCE_SERVICE, "heart-1")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {
        "name": "kserve-container",
        "image": "x",
        "state": waiting,
        "lastState": {},
        "restartCount": 0,
    }
    pod = pod_of(service, {"containerStatuses": [container]})
    world.cluster.create(pod)
    world.cluster.update_status(POD, pod["metadata"]["name"], pod["status"])
    assert world.reason(ConditionType.DEGRADED) == ("True", "ImagePullFailed")


def test_without_pods_the_status_has_the_events_of_the_inference_service(world: World) -> None:
    world.reconcile_model()
    service = world.cluster.get(INFERENCE_SERVICE, "heart-1")
    world.cluster.record(
        service, reason="InternalError", message="StorageURI not supported", warning=True
    )
    assert world.reason(ConditionType.PROGRESSING) == ("True", "WaitingForPredictor"), (
        "it may be a matter of seconds"
    )
    later = Controller(
        world.cluster, Registry(httpx.Client(base_url="http://mlflow",
        transport=httpx.MockTransport(world._mlflow))),
        httpx.Client(), now=lambda: datetime(2100, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    status = later.reconcile_model("heart")
    assert status
    found = status.condition(ConditionType.DEGRADED)
    assert found
    assert (found.reason, found.message) == (
        "PodsNotCreated",
        "version 1: InternalError: StorageURI not supported",
    )


def test_the_status_has_the_reason_when_pods_are_forbidden(world: World) -> None:
    world.reconcile_model()
    forbidden = {
        "type": "PredictorReady",
        "status": "False",
        "reason": "FailedCreate",
        "message": "violates PodSecurity",
    }
    world.kserve({"conditions": [forbidden, {"type": "Ready", "status": "False"}]})
    assert world.reason(ConditionType.DEGRADED) == ("True", "PodsNotCreated")


def test_a_failed_load_of_an_additional_replica_does_not_degrade_the_version(world: World) -> None:
    world.reconcile_model()
    world.kserve(
        {
            **READY,
            "modelStatus": {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": "MLflow is away"},
            },
        }
    )
    world.reconcile_model()
    assert world.reason(ConditionType.READY) == ("True", "Serving")


def test_a_model_of_a_later_release_is_rolled_out_without_its_unknown_fields(world: World) -> None:
    world.reconcile_model()
    skew.store(world.cluster, "heart")
    world.kserve(READY)
    world.reconcile_model()
    skew.store(world.cluster, "heart")
    status = world.reconcile_model()
    assert [(t.version, t.role, t.percent) for t in status.traffic] == [("1", "live", 100)]
    assert world.reason(ConditionType.DEGRADED) == ("False", "UpToDate")


class LenientCluster(LocalCluster):
    """A cluster, like a real API server, that does not validate minReplicas against maxReplicas."""

    def __init__(self, strict: LocalCluster) -> None:
        super().__init__(strict.root)
        self._strict = strict

    def update_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> Manifest:
        return self._strict.update_status(kind, name, status)

    def get(self, kind: Kind, name: str) -> Manifest:
        found = super().get(kind, name)
        return (
            {**found, "spec": {**found["spec"], "scale": {"minReplicas": 3, "maxReplicas": 1}}}
            if kind == MODEL
            else found
        )


def test_an_invalid_spec_is_reported_and_leaves_the_traffic_unchanged(world: World) -> None:
    world.reconcile_model()
    world.kserve(READY)
    world.reconcile_model()
    traffic = world.reconcile_model().traffic
    lenient = World(LenientCluster(world.cluster))
    status = lenient.reconcile_model()
    lenient.cluster.close()
    assert status.traffic == traffic
    found = status.condition(ConditionType.DEGRADED)
    assert found
    assert found.reason == "InvalidSpec"
    assert "minReplicas 3 is above maxReplicas 1" in found.message


class RejectingCluster(LocalCluster):
    """A cluster on which a quota or an admission webhook rejects InferenceServices."""

    def apply(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "InferenceService":
            raise ClusterError("403: exceeded quota")
        return super().apply(manifest)


def test_a_rejection_by_the_cluster_is_reported_in_the_status(tmp_path: Path) -> None:
    cluster = RejectingCluster(tmp_path)
    cluster.apply(HEART)
    world = World(cluster)
    world.reconcile_model()
    assert world.reason(ConditionType.DEGRADED) == ("True", "ClusterRefused")
    assert world.events() == {"ClusterRefused": "Warning"}
    cluster.close()


def test_a_version_without_a_digest_is_adopted_by_one_job(world: World) -> None:
    world.tags = []
    assert world.reason(ConditionType.DEGRADED) == ("True", "DigestMissing")
    world.cluster.apply(ADOPT)
    for _ in range(3):
        assert world.reason(ConditionType.PROGRESSING) == ("True", "Adopting")
    (job,) = world.cluster.list(JOB)
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["heart", "1"]
    failed = {
        "type": "Failed",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "message": "it has failed",
    }
    name = job["metadata"]["name"]
    world.cluster.update_status(JOB, name, {"conditions": [failed]})
    assert world.reason(ConditionType.DEGRADED) == ("True", "AdoptionFailed")
    degraded = world.reconcile_model().condition(ConditionType.DEGRADED)
    assert degraded
    assert f"the Job {name} ended without a result (killed, out of memory or" in degraded.message
    assert world.cluster.list(JOB) == [world.cluster.get(JOB, name)]


TRAIN = {**ADOPT, "metadata": {"name": "train"}}
TRAINED = {
    **HEART,
    "spec": {
        "registeredModel": "heart",
        "training": {"job": {"image": "example:1", "args": ["fit"], "schedule": "0 4 * * 1"}},
    },
}


def test_the_cron_job_of_a_training_is_created_restored_and_deleted_with_its_model(
    world: World,
) -> None:
    world.cluster.apply(TRAINED)
    assert world.reason(ConditionType.DEGRADED) == ("True", "TrainingTemplateMissing")
    world.cluster.apply(TRAIN)
    assert world.reason(ConditionType.DEGRADED) == ("False", "UpToDate")
    created = world.cluster.get(CRON_JOB, "train-heart")
    assert created["spec"]["schedule"] == "0 4 * * 1"
    world.reconcile_model()
    assert world.cluster.get(CRON_JOB, "train-heart") == created
    assert "Repaired" not in world.events()

    world.cluster.suspend("train-heart", True)
    world.reconcile_model()
    assert world.cluster.get(CRON_JOB, "train-heart")["spec"] == created["spec"]
    assert world.events()["Repaired"] == "Warning"

    world.cluster.delete(MODEL, "heart")
    with pytest.raises(NotFound):
        world.cluster.get(CRON_JOB, "train-heart")


def test_a_cron_job_is_deleted_when_its_model_declares_no_job_any_more(world: World) -> None:
    world.cluster.apply(TRAIN)
    world.cluster.apply(TRAINED)
    world.reconcile_model()
    job = world.cluster.create_job("train-heart")["metadata"]["name"]
    world.cluster.apply(HEART)
    world.reconcile_model()
    assert [each["metadata"]["name"] for each in world.cluster.list(CRON_JOB)] == ["train"]
    assert job not in [each["metadata"]["name"] for each in world.cluster.list(JOB)]


def test_a_cron_job_of_another_author_is_left_alone_and_reported(world: World) -> None:
    other = {**ADOPT, "metadata": {"name": "train-heart", "labels": {"slipway.dev/model": "heart"}}}
    before = world.cluster.apply(other)
    world.cluster.apply(TRAIN)
    world.cluster.apply(TRAINED)
    assert world.reason(ConditionType.DEGRADED) == ("True", "TrainingNameTaken")
    assert world.cluster.get(CRON_JOB, "train-heart") == before
    world.cluster.apply(HEART)
    assert world.reason(ConditionType.DEGRADED) == ("False", "UpToDate")
    assert world.cluster.get(CRON_JOB, "train-heart") == before


class WithoutCronJobs(LocalCluster):
    """A cluster with a quota that leaves no CronJob."""

    def apply(self, manifest: Manifest) -> Manifest:
        if manifest["metadata"]["name"] == "train-heart":
            raise ClusterError("403: exceeded quota")
        return super().apply(manifest)


def test_a_rejected_cron_job_is_reported_once_and_stops_no_rollout(tmp_path: Path) -> None:
    cluster = WithoutCronJobs(tmp_path)
    cluster.apply(TRAIN)
    cluster.apply(TRAINED)
    world = World(cluster)
    world.reconcile_model()
    world.kserve(READY)
    for _ in range(3):
        status = world.reconcile_model()
    assert [(t.version, t.percent) for t in status.traffic] == [("1", 100)]
    found = status.condition(ConditionType.DEGRADED)
    assert found
    assert (found.reason, found.message) == (
        "ClusterRefused",
        "CronJob train-heart: 403: exceeded quota",
    )
    before = cluster.get(MODEL, "heart")
    events = cluster.events(before)
    world.reconcile_model()
    assert cluster.get(MODEL, "heart") == before
    assert cluster.events(before) == events
    cluster.close()


def test_removed_choices_are_removed_from_the_predictor_once(world: World) -> None:
    world.reconcile_model()
    plain = world.cluster.get(INFERENCE_SERVICE, "heart-1")["spec"]
    spec = {"registeredModel": "heart", "predictor": {"nodeSelector": {"gpu": "a100"}}}
    world.cluster.apply({**HEART, "spec": spec})
    world.reconcile_model()
    assert world.cluster.get(INFERENCE_SERVICE, "heart-1")["spec"] != plain
    world.cluster.apply(HEART)
    world.reconcile_model()
    after = world.cluster.get(INFERENCE_SERVICE, "heart-1")
    assert after["spec"] == plain
    world.reconcile_model()
    assert world.cluster.get(INFERENCE_SERVICE, "heart-1") == after
    assert "Repaired" not in world.events()


def test_a_deleted_model_has_no_status(world: World) -> None:
    world.cluster.delete(MODEL, "heart")
    assert world.controller.reconcile_model("heart") is None


def pod_of(service: Manifest, status: Manifest) -> Manifest:
    owner = {key: service[key] for key in ("apiVersion", "kind")} | {
        key: service["metadata"][key] for key in ("name", "uid")
    }
    metadata = {"name": f"{owner['name']}-predictor-x", "ownerReferences": [owner]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": []},
        "status": status,
    }
