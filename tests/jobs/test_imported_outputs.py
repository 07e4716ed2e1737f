"""Signatures of imported models, derived or declared, compared with the model's outputs."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from slipway.errors import Refused
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_file import of_onnx
from slipway.packaging.rows import generate_rows, request_of
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype, parse_request
from slipway_jobs.imports.estimator import of_skops

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(90, 3)).astype(np.float32)
LABELS = np.digitize(FEATURES[:, 0], [-0.5, 0.5])
ANIMALS = np.array(["dog", "cat", "emu"])[LABELS]
WORDS = ["good day", "bad day", "ok good", "bad bad"]


def saved_skops(folder: Path, estimator: Any) -> Path:
    skops.io.dump(estimator, folder / "model.skops")
    return folder / "model.skops"


def graph(
    folder: Path,
    nodes: list[tuple[str, list[str], list[str]]],
    inputs: list[Any],
    outputs: list[Any],
    **weights: Any,
) -> Path:
    made = helper.make_graph(
        [helper.make_node(*node) for node in nodes], "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return saved(
        folder, helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    )


def saved(folder: Path, model: ModelProto) -> Path:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def columns(model: PackagedModel) -> list[tuple[str, str, tuple[int, ...]]]:
    return [
        (c.name, c.datatype.value, c.shape)
        for c in (*model.signature.inputs, *model.signature.outputs)
    ]


def signature(inputs: list[dict[str, Any]], *outputs: dict[str, Any]) -> Signature:
    return Signature.model_validate({"inputs": inputs, "outputs": outputs})


THREE = [{"name": "features", "datatype": "FP32", "shape": [3]}]
TEXT = [{"name": "text", "datatype": "BYTES"}]


@pytest.mark.parametrize("shape", [["n"], ["n", 1], ["n", 3], ["n", 2, 2]])
@pytest.mark.parametrize(
    "kind", [TensorProto.STRING, TensorProto.FLOAT, TensorProto.UINT64, TensorProto.BOOL]
)
def test_inputs_of_every_shape_and_kind_have_generated_rows_and_an_example(
    tmp_path: Path, kind: int, shape: list[Any]
) -> None:
    model = of_onnx(
        graph(tmp_path, [("Identity", ["t"], ["y"])], [("t", kind, shape)], [("y", kind, shape)]),
        None,
        None,
    )
    rows = generate_rows(model.signature, rows=2)
    model.check_rows(rows)
    model.check_outputs(rows)
    assert model.signature.check(parse_request(request_of(model.signature, rows)).inputs) == 1


def test_an_example_of_a_text_is_accepted(tmp_path: Path) -> None:
    path = graph(
        tmp_path,
        [("Identity", ["t"], ["y"])],
        [("t", TensorProto.STRING, ["n", 1])],
        [("y", TensorProto.STRING, ["n", 1])],
    )
    body = json.dumps(
        {"inputs": [{"name": "t", "datatype": "BYTES", "shape": [1], "data": ["hello"]}]}
    ).encode()
    assert columns(of_onnx(path, None, body)) == [("t", "BYTES", ()), ("y", "BYTES", ())]


def test_a_classifiers_dictionaries_become_a_vector_that_names_its_classes(tmp_path: Path) -> None:
    for labels, names in ((ANIMALS, ("cat", "dog", "emu")), (LABELS + 5, ("5", "6", "7"))):
        model = of_onnx(
            saved(tmp_path, to_onnx(LogisticRegression().fit(FEATURES, labels), FEATURES[:1])),
            None,
            None,
        )
        assert model.signature.outputs[1].classes == names


def with_class_names(folder: Path) -> Path:
    """Return a graph with the class names as an output, an option of the converter."""
    nodes = [("Identity", ["x"], ["y"]), ("Identity", ["names"], ["class_labels"])]
    outputs = [("y", TensorProto.FLOAT, ["n", 3]), ("class_labels", TensorProto.INT64, [3])]
    return graph(
        folder, nodes, [("x", TensorProto.FLOAT, ["n", 3])], outputs, names=np.array([1, 2, 3])
    )


def test_an_output_that_is_not_per_row_is_left_out_and_named_on_the_card(tmp_path: Path) -> None:
    model = of_onnx(with_class_names(tmp_path), None, None)
    assert columns(model) == [("x", "FP32", (3,)), ("y", "FP32", (3,))]
    assert (
        model.origin == "An ONNX file, served without outputs that are not per row: class_labels."
    )
    model = of_onnx(
        with_class_names(tmp_path),
        signature([THREE[0] | {"name": "x"}], THREE[0] | {"name": "y"}),
        None,
    )
    assert model.origin == "An ONNX file, served unchanged."


def test_an_output_that_is_not_per_row_cannot_be_declared(tmp_path: Path) -> None:
    declared = signature([THREE[0] | {"name": "x"}], {"name": "class_labels", "datatype": "INT64"})
    with pytest.raises(
        Refused,
        match=(
            r"output 'class_labels' has the shape \[3\] for 2 rows: the first dimension must be "
            r"the"
        ),
    ):
        of_onnx(with_class_names(tmp_path), declared, None)


def test_two_class_names_are_not_taken_for_two_trial_rows(tmp_path: Path) -> None:
    nodes = [("Identity", ["x"], ["y"]), ("Identity", ["names"], ["class_labels"])]
    outputs = [("y", TensorProto.FLOAT, ["n", 2]), ("class_labels", TensorProto.INT64, [2])]
    path = graph(
        tmp_path, nodes, [("x", TensorProto.FLOAT, ["n", 2])], outputs, names=np.array([0, 1])
    )
    assert columns(of_onnx(path, None, None)) == [("x", "FP32", (2,)), ("y", "FP32", (2,))]


@pytest.mark.parametrize(
    ("nodes", "output", "reason"),
    [
        ([("Reshape", ["x", "flat"], ["y"])], ["m"], r"output 'y' has the shape \[9\] for 3 rows"),
        (
            [("Transpose", ["x"], ["t"]), ("MatMul", ["x", "t"], ["y"])],
            ["n", "m"],
            (
                r"output 'y' of a row has the shape \[2\] or \[3\], depending on the number of "
                r"rows: rows must be independent"
            ),
        ),
    ],
    ids=["flattened", "each-with-each"],
)
def test_outputs_that_are_not_per_row_are_refused(
    tmp_path: Path, nodes: list[Any], output: list[Any], reason: str
) -> None:
    path = graph(
        tmp_path,
        nodes,
        [("x", TensorProto.FLOAT, ["n", 3])],
        [("y", TensorProto.FLOAT, output)],
        flat=np.array([-1]),
    )
    with pytest.raises(Refused, match=reason):
        of_onnx(path, None, None)


@pytest.mark.parametrize("serve_estimator", [False, True], ids=["graph", "estimator"])
def test_a_regressor_of_two_targets_is_served_as_a_vector_of_two(
    tmp_path: Path, serve_estimator: bool
) -> None:
    fitted = LinearRegression().fit(FEATURES, np.c_[FEATURES @ [1, 2, 3], FEATURES @ [100, 0, 0]])
    model = of_skops(
        saved_skops(tmp_path, fitted), None, None, None, serve_estimator=serve_estimator
    )
    assert model.form is (ArtifactFormat.SKOPS if serve_estimator else ArtifactFormat.ONNX)
    assert columns(model) == [("features", "FP32", (3,)), ("value", "FP32", (2,))]
    np.testing.assert_allclose(
        model.predict_rows({"features": FEATURES[:2]})["value"],
        fitted.predict(FEATURES[:2]),
        rtol=1e-3,
    )


def test_a_scalar_declared_for_two_targets_is_refused(tmp_path: Path) -> None:
    path = saved_skops(tmp_path, LinearRegression().fit(FEATURES, FEATURES[:, :2]))
    with pytest.raises(
        Refused,
        match=(
            r"output 'value' has the shape \[256, 2\] for 256 rows; \[256\] is expected; correct "
            r"the"
        ),
    ):
        of_skops(path, signature(THREE, {"name": "value", "datatype": "FP32"}), None, None)


@pytest.mark.parametrize(
    "fitted", [KMeans(3, n_init=1), GaussianMixture(3)], ids=lambda each: type(each).__name__
)
def test_clusters_are_served_as_a_graph(tmp_path: Path, fitted: Any) -> None:
    model = of_skops(saved_skops(tmp_path, fitted.fit(FEATURES)), None, None, None)
    assert (model.form, columns(model)[1:]) == (ArtifactFormat.ONNX, [("value", "FP32", ())])


@pytest.mark.parametrize(
    ("labels", "datatype", "names", "codes"),
    [
        (ANIMALS, Datatype.BYTES, ("cat", "dog", "emu"), None),
        (LABELS + 3, Datatype.INT64, ("3", "4", "5"), {3: "3", 4: "4", 5: "5"}),
        (LABELS.astype(float), Datatype.INT64, ("0", "1", "2"), {0: "0", 1: "1", 2: "2"}),
    ],
    ids=["texts", "numbers", "floats"],
)
def test_classes_of_an_estimator_are_named(
    tmp_path: Path,
    labels: Any,
    datatype: Datatype,
    names: tuple[str, ...],
    codes: dict[int, str] | None,
) -> None:
    model = of_skops(
        saved_skops(tmp_path, LogisticRegression().fit(FEATURES, labels)), None, None, None
    )
    label, probabilities = model.signature.outputs
    assert (label.datatype, label.codes, probabilities.classes) == (datatype, codes, names)
    assert (probabilities.minimum, probabilities.maximum) == (0, 1)
    model.check_outputs({"features": FEATURES})


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (
            [{"name": "label", "datatype": "INT64"}],
            "output 'label' is 'cat'; the signature has INT64",
        ),
        (
            [
                {"name": "label", "datatype": "BYTES"},
                {"name": "p", "datatype": "FP32", "shape": [2]},
            ],
            r"has the shape \[256, 3\]",
        ),
    ],
    ids=["datatype", "classes"],
)
def test_outputs_that_do_not_match_the_estimator_are_refused(
    tmp_path: Path, outputs: list[dict[str, Any]], reason: str
) -> None:
    path = saved_skops(tmp_path, LogisticRegression().fit(FEATURES, ANIMALS))
    with pytest.raises(Refused, match=reason):
        of_skops(path, signature(THREE, *outputs), None, None)


def test_a_value_that_is_no_integer_is_not_truncated(tmp_path: Path) -> None:
    path = saved_skops(tmp_path, LinearRegression().fit(FEATURES, FEATURES[:, 0]))
    with pytest.raises(Refused, match="the signature has INT64; correct the --signature"):
        of_skops(path, signature(THREE, {"name": "value", "datatype": "INT64"}), None, None)


def test_declared_codes_are_compared_with_the_outputs(tmp_path: Path) -> None:
    declared = signature(THREE, {"name": "label", "datatype": "INT64", "codes": {7: "seven"}})
    model = of_skops(
        saved_skops(tmp_path, LogisticRegression().fit(FEATURES, LABELS)), declared, None, None
    )
    with pytest.raises(Refused, match="which is not one of the codes 7: correct the signature"):
        model.check_outputs(generate_rows(model.signature, rows=1))


@pytest.mark.parametrize(
    "vectorizer",
    [TfidfVectorizer(), HashingVectorizer(n_features=16)],
    ids=lambda each: type(each).__name__,
)
def test_a_pipeline_of_texts_is_served_directly(tmp_path: Path, vectorizer: Any) -> None:
    fitted = make_pipeline(vectorizer, LogisticRegression()).fit(WORDS, [1, 0, 1, 0])
    model = of_skops(saved_skops(tmp_path, fitted), None, None, None)
    assert (model.form, columns(model)[0]) == (ArtifactFormat.SKOPS, ("text", "BYTES", ()))
    given = model.predict_rows({"text": np.array(["bad", "a good day"], object)})
    assert given["label"].tolist() == fitted.predict(["bad", "a good day"]).tolist()
    declared = signature(TEXT, {"name": "label", "datatype": "INT64"})
    assert of_skops(saved_skops(tmp_path, fitted), declared, None, None).signature == declared
    with pytest.raises(
        Refused,
        match="the estimator takes texts; the signature must have one input, BYTES, a scalar",
    ):
        of_skops(
            saved_skops(tmp_path, fitted),
            signature(THREE, {"name": "label", "datatype": "INT64"}),
            None,
            None,
        )


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (make_pipeline(TfidfVectorizer(), LogisticRegression()), "the estimator is not fitted"),
        (
            StandardScaler().fit(FEATURES),
            "StandardScaler does not predict: save the whole pipeline",
        ),
        ({"weights": [1, 2]}, "contains dict, which is not an estimator"),
        (
            RandomForestClassifier(2).fit(FEATURES, np.c_[LABELS, LABELS]),
            "has 2 classification outputs",
        ),
    ],
    ids=["unfitted", "transformer", "no-estimator", "two-labels"],
)
def test_an_object_without_one_prediction_per_row_is_refused(
    tmp_path: Path, estimator: Any, reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        of_skops(saved_skops(tmp_path, estimator), None, None, None)


def test_an_example_replaces_generated_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({"work": ["Private", "State"] * 45, "age": FEATURES[:, 0]})
    encoded = ColumnTransformer([("c", OneHotEncoder(), ["work"])], remainder="passthrough")
    path = saved_skops(
        tmp_path, make_pipeline(encoded, LogisticRegression()).fit(frame, LABELS > 1)
    )
    inputs = [{"name": "work", "datatype": "BYTES"}, {"name": "age", "datatype": "FP32"}]
    declared = signature(
        inputs, {"name": "probability", "datatype": "FP32", "minimum": 0, "maximum": 1}
    )
    with pytest.raises(Refused, match=r"Found unknown categories.*or give a valid --example"):
        of_skops(path, declared, None, None)
    tensors = [
        each | {"shape": [1], "data": [value]}
        for each, value in zip(inputs, ("State", 40.0), strict=True)
    ]
    model = of_skops(path, declared, json.dumps({"inputs": tensors}).encode(), None)
    assert model.form is ArtifactFormat.SKOPS
    assert "no rows were given to compare a graph with it" in model.origin


Older = Callable[[Any], Path]


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Older:
    """``older(estimator)`` saves an estimator with the version of scikit-learn 1.3.2."""

    def save(estimator: Any) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr("sklearn.base.__version__", "1.3.2")
            return saved_skops(tmp_path, estimator)

    return save


BOTH = (
    "saved by scikit-learn 1.3.2, and predictions may differ with scikit-learn "
    f"{sklearn.__version__}"
)


def test_an_estimator_of_an_older_scikit_learn_is_refused_with_both_versions_and_the_remedy(
    older: Older,
) -> None:
    path = older(make_pipeline(StandardScaler(), LogisticRegression()).fit(FEATURES, LABELS))
    with pytest.raises(
        Refused,
        match=f"{BOTH}: fit and save it with {sklearn.__version__}, or give rows .* by --expected",
    ):
        of_skops(path, None, None, None)


def test_an_estimator_of_an_older_scikit_learn_is_served_when_expected_rows_verify_it(
    older: Older, tmp_path: Path
) -> None:
    fitted = DummyRegressor().fit(FEATURES, FEATURES[:, 0])
    np.savez(tmp_path / "expected.npz", features=FEATURES, value=fitted.predict(FEATURES))
    model = of_skops(older(fitted), None, None, tmp_path / "expected.npz")
    assert BOTH in model.caveat
    with warnings.catch_warnings():  # saved again, it has this version
        warnings.simplefilter("error")
        skops.io.loads(model.content)


def test_a_tree_without_valid_probabilities_is_refused(older: Older, tmp_path: Path) -> None:
    """Up to scikit-learn 1.3, a tree had counts of rows instead of shares."""
    fitted = RandomForestClassifier(1, max_depth=2, random_state=0).fit(FEATURES, LABELS > 1)
    tree = fitted.estimators_[0].tree_
    tree.value[...] = tree.value * tree.n_node_samples[:, None, None]
    np.savez(tmp_path / "expected.npz", features=FEATURES, probability=np.full(90, 0.5))
    with pytest.raises(
        Refused, match=f"predict_proba returns .* not probabilities; model.skops was {BOTH}"
    ):
        of_skops(older(fitted), None, None, tmp_path / "expected.npz")


def wrong_graph(scope: Any, operator: Any, container: Any) -> None:
    """Convert with an error: every value is 1 too large."""
    one, axes, first = (scope.get_unique_variable_name(name) for name in ("one", "axes", "first"))
    container.add_initializer(one, TensorProto.FLOAT, [1], [1.0])
    container.add_initializer(axes, TensorProto.INT64, [1], [1])
    container.add_node(
        "ReduceSum",
        [operator.inputs[0].full_name, axes],
        [first],
        name=scope.get_unique_operator_name("R"),
    )
    container.add_node(
        "Add",
        [first, one],
        [operator.outputs[0].full_name],
        name=scope.get_unique_operator_name("A"),
    )


class Summing(LinearRegression):  # type: ignore[misc]  # scikit-learn comes without types
    """An estimator of its own class, so that its converter does not outlive the test."""


def test_a_graph_with_other_outputs_is_refused_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.packaging.skops_file.SKOPS_TRUSTED", (f"{__name__}.Summing",))

    def shape(operator: Any) -> None:
        operator.outputs[0].type = FloatTensorType([None, 1])

    update_registered_converter(Summing, "TestSumming", shape, wrong_graph, overwrite=True)
    path = saved_skops(tmp_path, Summing().fit(FEATURES, FEATURES[:, 0]))
    with pytest.raises(
        Refused,
        match=r"parity is broken: output 'value'.*by --expected, or serve .* by --format skops",
    ):
        of_skops(path, None, None, None)
    assert of_skops(path, None, None, None, serve_estimator=True).form is ArtifactFormat.SKOPS


def test_the_card_distinguishes_a_missing_converter_from_a_failing_one(tmp_path: Path) -> None:
    model = of_skops(
        saved_skops(tmp_path, DummyRegressor().fit(FEATURES, FEATURES[:, 0])), None, None, None
    )
    assert "it has no ONNX graph (Unable to find a shape calculator for type" in model.origin
    model = of_skops(
        saved_skops(tmp_path, DummyRegressor().fit(FEATURES, FEATURES[:, 0])),
        None,
        None,
        None,
        serve_estimator=True,
    )
    assert model.origin == "A scikit-learn estimator in skops, served directly."


def test_an_internal_error_is_not_reported_as_a_missing_converter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raise the error of an ill-formed graph around the converter's, an error of this program."""

    def broken(*_: Any, **__: Any) -> None:
        raise AssertionError("the graph is ill-formed")

    monkeypatch.setattr("onnx.checker.check_model", broken)
    path = saved_skops(tmp_path, LinearRegression().fit(FEATURES, FEATURES[:, 0]))
    with pytest.raises(AssertionError, match="ill-formed"):
        of_skops(path, None, None, None)
