"""The controller on the stand-in cluster: what it reads, what it writes, what it tells. MLflow and
predictors are HTTP fakes.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from slipway_cluster import (
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    JOB,
    MODEL,
    ClusterError,
    Kind,
    Manifest,
)
from slipway_contract.model import ConditionType, ModelStatus
from slipway_contract.registry import Tag, digest_of
from slipway_controller.controller import Controller
from slipway_controller.registry import Registry
from slipway_local.standin.local_cluster import LocalCluster

from tests import skew

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
READY = {
    "conditions": [{"type": "Ready", "status": "True"}],
    "address": {"url": "http://heart-1"},
}
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}
COLUMN = {"name": "x", "datatype": "FP32", "shape": [-1]}
METADATA = {
    "name": "heart-1", "platform": "onnxruntime_onnx", "inputs": [COLUMN], "outputs": [{**COLUMN,
    "name": "y"}],
    "parameters": {"digest": DIGEST, "example": {"inputs": [TENSOR]}},
}  # fmt: skip


class World:
    """A cluster folder with what answers around it."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.infer_status = 200
        self.tags = [{"key": Tag.DIGEST, "value": DIGEST}]
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

    def look(self) -> ModelStatus:
        status = self.controller.look("heart")
        assert status
        assert self.cluster.get(MODEL, "heart")["status"] == status.manifest()
        return status

    def reason(self, kind: ConditionType) -> tuple[str, str]:
        condition = self.look().condition(kind)
        assert condition
        return condition.status, condition.reason

    def kserve(self, status: dict[str, Any]) -> None:
        self.cluster.update_status(INFERENCE_SERVICE, "heart-1", status)

    def told(self) -> dict[str, str]:
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


def test_a_model_is_brought_up_and_its_events_tell_how(world: World) -> None:
    world.look()
    owner = world.cluster.get(MODEL, "heart")["metadata"]["uid"]
    for kind in (INFERENCE_SERVICE, HORIZONTAL_POD_AUTOSCALER):
        assert world.cluster.get(kind, "heart-1")["metadata"]["ownerReferences"][0]["uid"] == owner
    world.kserve(READY)
    world.look()
    assert [t.url for t in world.look().traffic] == ["http://heart-1"]
    assert world.told().keys() == {"Creating", "SmokePrediction", "Serving", "TrafficMoved"}
    assert set(world.told().values()) == {"Normal"}


def test_a_model_at_rest_is_not_written_to(world: World) -> None:
    world.look()
    world.kserve(READY)
    for _ in range(3):
        world.look()
    before = world.cluster.get(MODEL, "heart")
    events = world.cluster.events(before)
    world.look()
    assert world.cluster.get(MODEL, "heart") == before
    assert world.cluster.events(before) == events


def test_an_example_that_is_refused_keeps_the_version_out(world: World) -> None:
    world.infer_status = 500
    world.look()
    world.kserve(READY)
    world.look()
    assert world.reason(ConditionType.DEGRADED) == ("True", "SmokePredictionFailed")
    assert world.told()["SmokePredictionFailed"] == "Warning"


def test_what_the_pods_say_stands_in_the_status(world: World) -> None:
    world.look()
    service = world.cluster.get(INFERENCE_SERVICE, "heart-1")
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {
        "name": "kserve-container",
        "image": "x",
        "state": waiting,
        "lastState": {},
        "restartCount": 0,
    }
    world.cluster.create(pod_of(service, {"containerStatuses": [container]}))
    assert world.reason(ConditionType.DEGRADED) == ("True", "ImagePullFailed")


def test_without_pods_it_is_told_what_the_cluster_says_of_the_inference_service(
    world: World,
) -> None:
    world.look()
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
    status = later.look("heart")
    assert status
    found = status.condition(ConditionType.DEGRADED)
    assert found
    assert (found.reason, found.message) == (
        "PodsNotCreated",
        "version 1: InternalError: StorageURI not supported",
    )


def test_pods_that_may_not_be_made_say_why(world: World) -> None:
    world.look()
    forbidden = {
        "type": "PredictorReady",
        "status": "False",
        "reason": "FailedCreate",
        "message": "violates PodSecurity",
    }
    world.kserve({"conditions": [forbidden, {"type": "Ready", "status": "False"}]})
    assert world.reason(ConditionType.DEGRADED) == ("True", "PodsNotCreated")


def test_a_failed_load_of_one_more_replica_is_no_failure_of_the_version(world: World) -> None:
    world.look()
    world.kserve(
        {
            **READY,
            "modelStatus": {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"message": "MLflow is away"},
            },
        }
    )
    world.look()
    assert world.reason(ConditionType.READY) == ("True", "Serving")


def test_a_model_of_a_later_release_is_rolled_out_by_what_is_known_of_it(world: World) -> None:
    world.look()
    skew.store(world.cluster, "heart")
    world.kserve(READY)
    world.look()
    skew.store(world.cluster, "heart")
    status = world.look()
    assert [(t.version, t.role, t.percent) for t in status.traffic] == [("1", "live", 100)]
    assert world.reason(ConditionType.DEGRADED) == ("False", "AsWanted")


class Lenient(LocalCluster):
    """As a real API server, which does not know that the smaller number must come first."""

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


def test_a_spec_that_is_not_valid_is_said_and_leaves_the_traffic_alone(world: World) -> None:
    world.look()
    world.kserve(READY)
    world.look()
    traffic = world.look().traffic
    misled = World(Lenient(world.cluster))
    status = misled.look()
    misled.cluster.close()
    assert status.traffic == traffic
    found = status.condition(ConditionType.DEGRADED)
    assert found
    assert found.reason == "InvalidSpec"
    assert "minReplicas 3 is above maxReplicas 1" in found.message


class Refusing(LocalCluster):
    """As where a quota or an admission webhook says no."""

    def apply(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "InferenceService":
            raise ClusterError("403: exceeded quota")
        return super().apply(manifest)


def test_what_the_cluster_refuses_stands_in_the_status(tmp_path: Path) -> None:
    cluster = Refusing(tmp_path)
    cluster.apply(HEART)
    world = World(cluster)
    world.look()
    assert world.reason(ConditionType.DEGRADED) == ("True", "ClusterRefused")
    assert world.told() == {"ClusterRefused": "Warning"}
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
    world.cluster.update_status(JOB, job["metadata"]["name"], {"conditions": [failed]})
    assert world.reason(ConditionType.DEGRADED) == ("True", "AdoptionFailed")


def test_a_model_that_is_gone_has_no_status(world: World) -> None:
    world.cluster.delete(MODEL, "heart")
    assert world.controller.look("heart") is None


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
