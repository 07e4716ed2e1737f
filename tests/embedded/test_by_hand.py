"""A version that someone logged from a notebook, and a Model that is declared for it: nothing is built, nothing restarted."""

import warnings

import httpx
import mlflow
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from slipway_contract.model import ConditionType

from tests.embedded.conftest import RunningRing
from tests.ring import wait_for

pytestmark = pytest.mark.ring

IRIS = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "iris"},
    "spec": {"registeredModel": "iris"},
}


def log_by_hand(uri: str) -> None:
    """No tag, no manifest, no signature of ours."""
    features, labels = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    graph = to_onnx(LogisticRegression(max_iter=500).fit(features, labels), features[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on what it is given
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("by hand")
        with mlflow.start_run():
            made = mlflow.onnx.log_model(graph, name="model", registered_model_name="iris")
        mlflow.MlflowClient().set_registered_model_alias("iris", "champion", made.registered_model_version)


def test_a_model_logged_by_hand_is_declared_and_serves(ring: RunningRing, user: httpx.Client) -> None:
    log_by_hand(ring.mlflow_url)
    ring.cluster.apply(IRIS)

    def ready() -> bool:
        condition = ring.model("iris").status.condition(ConditionType.READY)
        return condition is not None and condition.status == "True"

    wait_for("the Model to be Ready", ready, 90)
    flower = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    answer = wait_for("an answer", lambda: (a := user.post("/v2/models/iris/infer", json={"inputs": [flower]})).is_success and a)
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["output_label"] == [0]
    assert len(outputs["output_probability"]) == 3
    assert answer.headers["Slipway-Digest"] == ring.model("iris").status.traffic[0].digest
    assert "iris" in [model["name"] for model in user.get("/v1/models").json()["models"]]
