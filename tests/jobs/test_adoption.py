"""Adoption of versions that were logged manually, with a real MLflow server."""

import json
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from slipway.errors import NoSuchVersion, Refused
from slipway.packaging import artifact
from slipway.packaging.inference import run_onnx
from slipway.packaging.onnx_file import understand
from slipway.packaging.onnx_graph import Graph, GraphInput, inputs_of
from slipway.packaging.rows import Arrays, request_of
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import EXAMPLE_FILE, NAME_RULE, SIGNATURE_FILE, Tag
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype, parse_request
from slipway_jobs.registry.adoption import adopt
from slipway_jobs.registry.logged_graph import with_rows
from slipway_jobs.settings import Settings

FEATURES = np.array([[5.1, 3.5], [4.9, 3.0], [6.2, 2.9], [6.7, 3.1]], np.float32)
CLASSIFIER = LogisticRegression().fit(FEATURES, [0, 0, 1, 1])


def logged(tracking: Tracking, mlflow_url: str, model: Any, name: str, **more: Any) -> Version:
    """Log a model as in a notebook and return its version."""
    mlflow.set_tracking_uri(mlflow_url)
    mlflow.set_experiment("by hand")
    flavor = mlflow.onnx if isinstance(model, Graph) else mlflow.sklearn
    with warnings.catch_warnings(), mlflow.start_run():
        warnings.simplefilter("ignore")  # MLflow warns about missing signatures
        made = flavor.log_model(model, name="model", registered_model_name=name, **more)
    return tracking.version(name, str(made.registered_model_version))


@pytest.fixture(scope="module")
def plain(tracking: Tracking, mlflow_url: str) -> Version:
    return logged(
        tracking,
        mlflow_url,
        to_onnx(CLASSIFIER, FEATURES[:1]),
        "by-hand",
        input_example=FEATURES[1:3],
    )


@pytest.fixture(scope="module")
def adopted(plain: Version, settings: Settings, tracking: Tracking) -> dict[str, Any]:
    return adopt(plain, settings, tracking)


@pytest.mark.slow
def test_a_logged_classifier_becomes_an_artifact_with_a_pinned_digest(
    plain: Version, adopted: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    assert adopted["state"] == "adopted"
    version = tracking.version(plain.name, plain.version)
    assert version.digest == adopted["digest"]
    folder = tracking.download(version, tmp_path)
    artifact.check(folder, version.digest)
    signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
    assert [(c.name, c.datatype, c.shape) for c in signature.inputs] == [("X", Datatype.FP32, (2,))]
    # skl2onnx made dictionaries of the probabilities; they are a tensor again.
    assert [(c.datatype, c.shape) for c in signature.outputs] == [
        (Datatype.INT64, ()),
        (Datatype.FP32, (2,)),
    ]
    labels, probabilities = run_onnx((folder / "model.onnx").read_bytes(), {"X": FEATURES}).values()
    assert labels.tolist() == CLASSIFIER.predict(FEATURES).tolist()
    np.testing.assert_allclose(probabilities, CLASSIFIER.predict_proba(FEATURES), atol=1e-5)


@pytest.mark.slow
def test_the_logged_example_becomes_the_example_of_the_artifact(
    plain: Version, adopted: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    assert adopted
    folder = tracking.download(tracking.version(plain.name, plain.version), tmp_path)
    request = parse_request((folder / EXAMPLE_FILE).read_bytes())
    assert request.inputs[0].data == pytest.approx(FEATURES[1].tolist())
    assert json.loads((folder / "provenance.json").read_text()) == {
        "adoptedBy": "ada",
        "flavor": "onnx",
        "parity": None,
        "runId": plain.run_id,
    }


def test_the_logged_model_stays_unchanged(
    plain: Version, adopted: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    assert adopted
    untagged = Version(plain.name, plain.version, plain.run_id, {})
    folder = tracking.download(untagged, tmp_path)
    assert (folder / "MLmodel").exists()
    assert not (folder / "manifest.json").exists()


def test_a_version_is_adopted_once(
    plain: Version, adopted: dict[str, Any], settings: Settings, tracking: Tracking
) -> None:
    again = adopt(tracking.version(plain.name, plain.version), settings, tracking)
    assert (again["state"], again["digest"]) == ("unchanged", adopted["digest"])


@pytest.mark.slow
def test_a_pickle_is_not_adopted_and_the_reason_has_the_remedy(
    tracking: Tracking, mlflow_url: str, settings: Settings
) -> None:
    version = logged(
        tracking, mlflow_url, CLASSIFIER, "pickled", serialization_format="cloudpickle"
    )
    with pytest.raises(Refused, match=r"logged as sklearn in cloudpickle.*serialization_format"):
        adopt(version, settings, tracking)
    assert Tag.DIGEST not in tracking.version("pickled", version.version).tags


def test_a_version_without_files_is_refused(settings: Settings, tracking: Tracking) -> None:
    with pytest.raises(NoSuchVersion):
        adopt(Version("missing", "1", "", {}), settings, tracking)


def graph(shape: list[Any], kind: int = TensorProto.FLOAT, op: str = "Identity") -> Graph:
    value, result = (
        helper.make_tensor_value_info("x", kind, shape),
        helper.make_tensor_value_info("y", kind, None),
    )
    nodes = [helper.make_node(op, ["x"], ["y"])]
    made = helper.make_graph(nodes, "g", [value], [result])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def zeros(inputs: list[GraphInput]) -> Arrays:
    return with_rows(inputs, None, set())[1]


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ([1, 4], "fixed number of rows"),
        ([], "fixed number of rows"),
        ([None, None], "only the first may be free"),
        (["rows", 3, "width"], "only the first may be free"),
    ],
)
def test_a_graph_without_a_free_row_dimension_is_refused(shape: list[Any], problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        inputs_of(graph(shape))


@pytest.mark.parametrize(
    ("shape", "row_shape"),
    [(["rows"], ()), ([None, 1], ()), ([-1, 3], (3,)), (["n", 2, 2], (2, 2))],
)
@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL]
)
def test_shapes_and_types_are_those_of_the_graph(
    shape: list[Any], row_shape: tuple[int, ...], kind: int
) -> None:
    made = graph(shape, kind)
    inputs = inputs_of(made)
    declared, signature = understand(made, inputs, zeros(inputs))
    assert [c.shape for c in (*signature.inputs, *signature.outputs)] == [row_shape, row_shape]
    assert signature.inputs[0].datatype == signature.outputs[0].datatype
    assert len(declared.graph.output[0].type.tensor_type.shape.dim) == len(shape)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.STRING, TensorProto.INT64])
@pytest.mark.parametrize("example", [None, np.array([[np.nan]]), "x"])
def test_a_model_of_one_feature_has_an_example_without_a_valid_logged_one(
    kind: int, example: Any
) -> None:
    made = graph(["n", 1], kind)
    inputs = inputs_of(made)
    inputs, row = with_rows(inputs, example, set())
    _, signature = understand(made, inputs, row)
    assert parse_request(request_of(signature, row))
    missing = kind != TensorProto.INT64 and isinstance(example, np.ndarray)
    assert signature.inputs[0].missing is missing


def test_an_adopted_classifier_has_its_class_names() -> None:
    made = to_onnx(LogisticRegression().fit(FEATURES, ["cat", "cat", "dog", "dog"]), FEATURES[:1])
    inputs = inputs_of(made)
    _, signature = understand(made, inputs, zeros(inputs))
    assert signature.outputs[1].classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["squeezenet1.1", "my model", "models/x"])
def test_an_invalid_model_name_is_refused_with_the_rule(name: str) -> None:
    # No tracking server listens there: the name is checked before any request.
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(
        Refused,
        match=(
            f"'{name}' is not a name that can be served; rename the registered model: {NAME_RULE}"
        ),
    ):
        adopt(Version(name, "1", "", {}), Settings(MLFLOW_TRACKING_URI=nowhere), Tracking(nowhere))


def test_an_output_that_is_not_one_per_row_is_refused() -> None:
    made = graph(["rows", 3], op="Size")
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, None))
    inputs = inputs_of(made)
    with pytest.raises(Refused, match="the first dimension must be the rows"):
        understand(made, inputs, zeros(inputs))


def test_a_graph_that_fails_is_refused_with_a_remedy() -> None:
    made = graph(["rows", 3])
    made.graph.node[0].op_type = "NoSuchOperator"
    inputs = inputs_of(made)
    with pytest.raises(Refused, match="input_example"):
        understand(made, inputs, zeros(inputs))
