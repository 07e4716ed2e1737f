"""The controller process on a real cluster with KServe.

SLIPWAY_TEST_KUBERNETES names a namespace for it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_cluster import (
    CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    LEASE,
    MODEL,
    Cluster,
    ClusterError,
    NotFound,
    connect,
)
from slipway_contract.registry import Tag, digest_of

from tests.cluster.manifests import cron_job
from tests.support.http_server import http_server
from tests.support.waiting import SECONDS, wait_for

NAMESPACE = os.environ.get("SLIPWAY_TEST_KUBERNETES")
NAME = "operator-test"
PREDICTOR = {
    "resources": {"requests": {"cpu": "100m", "memory": "262144Ki"}},
    "env": [{"name": "EXAMPLE", "value": "$(HOME)"}, {"name": "EMPTY"}],
    "tolerations": [{"key": "example.org/gpu", "operator": "Exists"}],
    "podLabels": {"example.org/team": "risk"},
}
JOB = {"args": ["fit"], "schedule": "0 4 1 1 *", "timeZone": "Europe/Berlin"}
ELSEWHERE = "mlflow://operator-test/1?sha256=" + "0" * 64

pytestmark = pytest.mark.skipif(NAMESPACE is None, reason="SLIPWAY_TEST_KUBERNETES is not set")


@pytest.fixture
def mlflow() -> Iterator[str]:
    """Provide the URL of a registry in which every alias is version 1."""
    tags = [{"key": Tag.DIGEST, "value": digest_of(b"1")}]
    body = json.dumps({"model_version": {"version": "1", "tags": tags}}).encode()
    with http_server(lambda *_: (200, body)) as url:
        yield url


@pytest.fixture
def cluster() -> Cluster:
    return connect(f"kubernetes://{NAMESPACE}")


@pytest.fixture
def controller(
    mlflow: str, cluster: Cluster, tmp_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {
        **os.environ,
        "SLIPWAY_CLUSTER": f"kubernetes://{NAMESPACE}",
        "MLFLOW_TRACKING_URI": mlflow,
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway_controller"], env=environment, stdout=log, stderr=log
        )
    yield process
    cluster.delete(MODEL, NAME)
    cluster.delete(CRON_JOB, "train")
    until(
        lambda: all(each["metadata"]["name"] != NAME for each in cluster.list(MODEL)),
        tmp_path / "log",
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0, (tmp_path / "log").read_text()
    assert cluster.get(LEASE, "slipway-controller")["spec"].get("holderIdentity", "") == ""


def until(holds: Callable[[], Any], log: Path, seconds: float = 60) -> Any:
    def found() -> Any:
        try:
            return holds()
        except NotFound:
            return None

    try:
        return wait_for("the state of the objects", found, seconds)
    except AssertionError as error:
        error.add_note(log.read_text())
        raise


def repairs(cluster: Cluster) -> dict[str, int]:
    """Return how often each difference was restored, by its message."""
    events = cluster.events(cluster.get(MODEL, NAME))
    return {e["message"]: e["count"] for e in events if e["reason"] == "Repaired"}


@pytest.mark.slow
@pytest.mark.usefixtures("controller")
def test_the_objects_of_a_model_are_created_restored_and_deleted(
    cluster: Cluster, tmp_path: Path
) -> None:
    log, service, training = tmp_path / "log", f"{NAME}-1", f"train-{NAME}"
    model = {
        "apiVersion": MODEL.api_version,
        "kind": MODEL.name,
        "metadata": {"name": NAME},
        "spec": {
            "registeredModel": NAME,
            "rollout": {"drainSeconds": 1},
            "predictor": PREDICTOR,
            "training": {"job": JOB},
        },
    }
    cluster.apply(cron_job("train", "pass"))
    cluster.apply(model)
    wanted = until(lambda: cluster.get(INFERENCE_SERVICE, service), log)["spec"]["predictor"][
        "model"
    ]["storageUri"]
    until(lambda: cluster.get(HORIZONTAL_POD_AUTOSCALER, service), log)
    scheduled = until(lambda: cluster.get(CRON_JOB, training), log)["spec"]
    assert (scheduled["schedule"], scheduled["timeZone"]) == ("0 4 1 1 *", "Europe/Berlin")
    until(
        lambda: (
            "serving.slipway.dev/drain"
            in cluster.get(MODEL, NAME)["metadata"].get("finalizers", [])
        ),
        log,
    )
    until(
        lambda: (
            "Creating" in [event["reason"] for event in cluster.events(cluster.get(MODEL, NAME))]
        ),
        log,
    )

    edited = cluster.get(INFERENCE_SERVICE, service)
    edited["spec"]["predictor"]["model"]["storageUri"] = ELSEWHERE
    cluster.apply(
        {key: edited[key] for key in ("apiVersion", "kind", "spec")}
        | {"metadata": {"name": service}}
    )
    until(
        lambda: (
            cluster.get(INFERENCE_SERVICE, service)["spec"]["predictor"]["model"]["storageUri"]
            == wanted
        ),
        log,
    )

    before = cluster.get(HORIZONTAL_POD_AUTOSCALER, service)["metadata"]["uid"]
    cluster.delete(HORIZONTAL_POD_AUTOSCALER, service)
    until(lambda: cluster.get(HORIZONTAL_POD_AUTOSCALER, service)["metadata"]["uid"] != before, log)

    cluster.suspend(training, True)
    until(lambda: cluster.get(CRON_JOB, training)["spec"]["suspend"] is False, log)
    # The controller records an Event after it has restored the object.
    until(lambda: any(training in message for message in repairs(cluster)), log)
    assert set(repairs(cluster).values()) == {1}, "a difference that is never restored"

    cluster.delete(MODEL, NAME)
    until(lambda: NAME not in [each["metadata"]["name"] for each in cluster.list(MODEL)], log)
    for kind, name in ((HORIZONTAL_POD_AUTOSCALER, service), (CRON_JOB, training)):
        with pytest.raises(ClusterError):
            cluster.get(kind, name)
