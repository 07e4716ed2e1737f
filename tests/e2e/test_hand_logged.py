"""A model logged with plain MLflow is served after one `kubectl apply`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import KindStack, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for


def test_a_version_logged_by_hand_serves_after_kubectl_apply(
    stack: KindStack, user: httpx.Client
) -> None:
    assert stack.mlflow_login
    credentials = {
        "MLFLOW_TRACKING_USERNAME": stack.mlflow_login[0],
        "MLFLOW_TRACKING_PASSWORD": stack.mlflow_login[1],
    }
    script = Path(__file__).parent / "log_by_hand.py"
    done = subprocess.run(
        [sys.executable, script, stack.mlflow_url],
        env={**os.environ, **credentials},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    starts = {pod["metadata"]["name"] for pod in objects("pods", "app.kubernetes.io/name=slipway")}
    spec = {"registeredModel": "by-hand", "alias": "champion"}
    manifest = {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "by-hand"},
        "spec": spec,
    }
    kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    try:
        wait_for("the Model to be Ready", lambda: stack.live("by-hand"), START_SECONDS)
        body = {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]}
        answer = wait_for(
            "a prediction", lambda: good(user.post("/v2/models/by-hand/infer", json=body))
        )
        assert answer.json()["outputs"][0]["data"] == pytest.approx([8.0])
        assert "by-hand" in [model["name"] for model in user.get("/v1/models").json()["models"]]
        assert starts <= {
            pod["metadata"]["name"] for pod in objects("pods", "app.kubernetes.io/name=slipway")
        }
    finally:
        kubectl("delete", "model", "by-hand")
    wait_for(
        "the end of its predictors",
        lambda: not objects("inferenceservices", "slipway.dev/model=by-hand"),
        START_SECONDS,
    )


def good(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.is_success else None
