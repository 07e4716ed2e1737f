"""A version logged from a notebook, and a Model declared for it: no build, no restart."""

import warnings

import httpx
import mlflow
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from slipway_cluster import MODEL
from slipway_contract.model import ConditionType

from tests.local.conftest import START_SECONDS, LocalStack
from tests.support.waiting import wait_for

pytestmark = pytest.mark.stack

IRIS = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "iris"},
    "spec": {"registeredModel": "iris"},
}


def log_by_hand(uri: str) -> None:
    """Log a version without a tag, a manifest or a signature of Slipway."""
    features, labels = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    graph = to_onnx(LogisticRegression(max_iter=500).fit(features, labels), features[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on the model
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("by hand")
        with mlflow.start_run():
            made = mlflow.onnx.log_model(graph, name="model", registered_model_name="iris")
        mlflow.MlflowClient().set_registered_model_alias(
            "iris", "champion", made.registered_model_version
        )


@pytest.fixture(scope="module")
def iris(stack: LocalStack) -> str:
    """Return the name of a Model once it is Ready."""
    log_by_hand(stack.mlflow_url)
    stack.cluster.apply(IRIS)
    wait_for(
        "the Model to be Ready", lambda: reason(stack, "iris", ConditionType.READY), START_SECONDS
    )
    return "iris"


def reason(stack: LocalStack, model: str, kind: ConditionType) -> str | None:
    """Return the condition's reason while it is True."""
    condition = stack.model(model).status.condition(kind)
    return condition.reason if condition is not None and condition.status == "True" else None


def test_a_model_logged_by_hand_is_declared_and_serves(
    stack: LocalStack, user: httpx.Client, iris: str
) -> None:
    flower = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
    path = f"/v2/models/{iris}/infer"
    answer = wait_for(
        "an answer", lambda: (a := user.post(path, json={"inputs": [flower]})).is_success and a
    )
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["output_label"] == [0]
    assert len(outputs["output_probability"]) == 3
    assert answer.headers["Slipway-Digest"] == stack.model(iris).status.traffic[0].digest
    assert iris in [model["name"] for model in user.get("/v1/models").json()["models"]]


def test_a_version_signed_for_another_model_is_rejected_with_its_reason(
    stack: LocalStack, iris: str
) -> None:
    registry = mlflow.MlflowClient(stack.mlflow_url)
    signed = registry.get_model_version_by_alias(iris, "champion").tags
    registry.create_registered_model("rose")
    source = signed["slipway.artifact"]
    registry.create_model_version(
        "rose", source, tags=signed, model_id=source.removeprefix("models:/")
    )
    registry.set_registered_model_alias("rose", "champion", "1")
    stack.cluster.apply({**IRIS, "metadata": {"name": "rose"}, "spec": {"registeredModel": "rose"}})
    refused = wait_for("the refusal", lambda: reason(stack, "rose", ConditionType.DEGRADED))
    condition = stack.model("rose").status.condition(ConditionType.DEGRADED)
    assert refused == "SignatureInvalid"
    assert condition
    assert (
        "manifest.sig: is not a signature of this manifest.json for the model rose"
        in condition.message
    )
    stack.cluster.delete(MODEL, "rose")
