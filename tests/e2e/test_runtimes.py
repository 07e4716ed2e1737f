"""A runtime that is not the platform's: MLServer with its own class for scikit-learn.

A server of one's own is the tutorial ``own-runtime``, which tests/e2e/test_documents.py runs.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.documents import ROOT
from tests.e2e.conftest import CLUSTER, KindStack, kubectl, objects, secret
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for

RUNTIME = "kserve-mlserver"
PROBE = {
    "httpGet": {"path": "/v2/models/{{.Name}}/ready", "port": 8080},
    "periodSeconds": 2,
    "failureThreshold": 60,
}


DOCKERFILE = """
FROM python:3.11-slim-bookworm AS sklearn
RUN pip install --no-cache-dir --no-deps --target /sklearn mlserver-sklearn=={version}
FROM slipway/serving:dev
COPY --from=sklearn /sklearn /sklearn
ENV PYTHONPATH=/sklearn
"""
IMAGE = "mlserver-sklearn:e2e"


@pytest.fixture
def image() -> Iterator[str]:
    """Build the image of an unmodified MLServer with its class for scikit-learn, and load it.

    The platform's image has MLServer and scikit-learn already.
    """
    locked = (ROOT / "requirements/serving-dev.txt").read_text()
    found = re.search(r"^mlserver-sklearn==(\S+)", locked, re.MULTILINE)
    assert found
    run("docker", "build", "--tag", IMAGE, "-", stdin=DOCKERFILE.format(version=found[1]))
    run("kind", "load", "docker-image", "--name", CLUSTER, IMAGE)
    yield IMAGE
    run("docker", "image", "rm", IMAGE)


def run(*argv: str, stdin: str | None = None) -> None:
    done = subprocess.run(
        argv,
        input=stdin,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def mlserver(stack: KindStack, image: str) -> Iterator[str]:  # noqa: ARG001 - sets KUBECONFIG
    """Install KServe's runtime of MLServer, with the security context of the namespace."""
    platform = json.loads(
        kubectl("get", "clusterservingruntime", "slipway-mlserver", "--output", "json").stdout
    )
    container = platform["spec"]["containers"][0]
    manifest = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {
            "name": RUNTIME,
            "annotations": {"serving.kserve.io/server-type": "mlserver"},
        },
        "spec": {
            "protocolVersions": ["v2"],
            "supportedModelFormats": [{"name": "sklearn", "version": "1"}],
            "containers": [
                {
                    "name": "kserve-container",
                    "image": image,
                    "args": ["mlserver", "start", "/mnt/models"],
                    "env": [
                        {
                            "name": "MLSERVER_MODEL_IMPLEMENTATION",
                            "value": "{{.Labels.modelClass}}",
                        },
                        {"name": "MLSERVER_HTTP_PORT", "value": "8080"},
                        {"name": "MLSERVER_GRPC_PORT", "value": "9000"},
                        {"name": "MLSERVER_PARALLEL_WORKERS", "value": "0"},
                    ],
                    "startupProbe": PROBE,
                    "readinessProbe": PROBE,
                    "resources": container["resources"],
                    "securityContext": container["securityContext"],
                    # The controller adds this volume to the pods of a runtime.
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
        },
    }
    kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    yield RUNTIME
    kubectl("delete", "servingruntime", RUNTIME)


def test_mlserver_serves_a_pickle_that_a_model_allows_and_is_not_verified(
    stack: KindStack, user: httpx.Client, mlserver: str, tmp_path: Path
) -> None:
    store_pickle(stack, tmp_path)
    declare({"predictor": {"runtime": mlserver, "format": "sklearn"}})
    try:
        wait_for(
            "the pickle to be refused", lambda: "joblib" in stack.degraded("pickled"), START_SECONDS
        )
        declare(
            {"allowFormats": ["joblib"], "predictor": {"runtime": mlserver, "format": "sklearn"}}
        )
        wait_for("the Model to be Ready", lambda: stack.live("pickled"), START_SECONDS)
        body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
        answer = wait_for(
            "a prediction", lambda: good(user.post("/v2/models/pickled/infer", json=body))
        )
        assert answer.json()["outputs"][0]["data"] == pytest.approx([8.0])
        (traffic,) = stack.model("pickled").status.traffic
        assert not traffic.verified
        rows = user.post("/v1/models/pickled/predictions", json={"instances": [{"x": [1, 2]}]})
        assert rows.status_code == 503
        assert "has no signature for named features" in rows.json()["detail"]
    finally:
        kubectl("delete", "model", "pickled")
    wait_for(
        "the end of its predictors",
        lambda: not objects("inferenceservices", "slipway.dev/model=pickled"),
        START_SECONDS,
    )


def store_pickle(stack: KindStack, folder: Path) -> None:
    key = folder / "key.pem"
    key.write_text(secret("slipway-signing")["private-key"])
    assert stack.mlflow_login
    credentials = {
        "MLFLOW_TRACKING_USERNAME": stack.mlflow_login[0],
        "MLFLOW_TRACKING_PASSWORD": stack.mlflow_login[1],
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "log_joblib.py", stack.mlflow_url, key],
        env={**os.environ, **credentials},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def declare(spec: dict[str, Any]) -> None:
    manifest = {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "pickled"},
        "spec": {"registeredModel": "pickled", "alias": "champion", **spec},
    }
    kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))


def good(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_success else None
