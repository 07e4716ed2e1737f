"""The parity of exported graphs and estimators, with the signature's names."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from slipway.errors import ParityError
from slipway.packaging.inference import run_onnx
from slipway.packaging.onnx_graph import export
from slipway.training.dataset import Table
from slipway.training.installed import declared_task
from slipway.training.metric import MAE, WAPE
from slipway.training.target import Quantity
from slipway.training.task import Task, parse_parameters
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_heart.synthetic import synthetic_heart
from slipway_heart.task import THRESHOLD
from slipway_jobs.formats.served import Served
from slipway_jobs.training.training import check_parity, example, fit
from threadpoolctl import threadpool_limits


def fitted(task: Task, table: Table, **parameters: str) -> Any:
    estimator = next(iter(task.estimators(parse_parameters(task, parameters)).values()))
    return clone(estimator).fit(table.features, table.labels)


def digits() -> Table:
    from slipway.training.installed import declared_dataset

    make = declared_dataset("digits").make
    assert make is not None
    return make().take(np.arange(500))


KINDS = [("heart", kind) for kind in ("logistic", "svc", "forest", "boosting")] + [
    ("digits", "logistic"),
    ("digits", "forest"),
]


@pytest.mark.parametrize(("name", "estimator"), KINDS)
def test_labels_are_equal_and_probabilities_within_the_tolerance(name: str, estimator: str) -> None:
    task, table = declared_task(name), synthetic_heart() if name == "heart" else digits()
    split = task.split.hold_out(table, task.target, "row")
    model = fitted(task, split.train, estimator=estimator, trees="20")
    assert (
        check_parity(task, Served.of(export(model, task.signature)), model, split.test.features)
        < 1e-4
    )


def test_the_label_of_heart_depends_on_the_threshold() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    outputs = run_onnx(
        export(fitted(task, table, C="0.1"), task.signature).SerializeToString(),
        task.feeds(table.features),
    )
    assert THRESHOLD == 0.2
    assert np.array_equal(outputs["label"], outputs["probability"] >= THRESHOLD)
    assert ((outputs["probability"] >= THRESHOLD) & (outputs["probability"] < 0.5)).any()


def test_a_graph_without_the_threshold_fails_the_parity() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    right = fitted(task, table, C="0.1")
    without_threshold = (
        clone(right)
        .set_params(fixedthresholdclassifier__threshold=0.5)
        .fit(table.features, table.labels)
    )
    with pytest.raises(ParityError, match="labels of the ONNX graph differ"):
        check_parity(
            task, Served.of(export(without_threshold, task.signature)), right, table.features
        )


def test_every_input_that_may_be_missing_is_filled_inside_the_graph() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    model = fitted(task, table, C="0.1")
    graph = Served.of(export(model, task.signature))
    may_be_missing = [index for index, column in enumerate(task.signature.inputs) if column.missing]
    features = np.repeat(table.features[:1], len(may_be_missing) + 1, axis=0)
    for row, column in enumerate(may_be_missing):
        features[row, column] = np.nan
    features[-1, may_be_missing] = np.nan
    assert len(may_be_missing) == 11
    assert check_parity(task, graph, model, features) < 1e-4


def test_boosted_trees_handle_missing_values_in_the_graph() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    features = table.features.copy()
    features[::3, 3:6] = np.nan
    # On a busy processor, waiting OpenMP threads are slower than a single thread.
    with threadpool_limits(1):
        model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(
            features, table.labels
        )
    assert check_parity(task, Served.of(export(model, task.signature)), model, features) < 1e-4


def test_names_types_and_shapes_are_those_of_the_signature() -> None:
    task = declared_task("heart")
    graph = export(fitted(task, synthetic_heart(), C="0.1"), task.signature).graph
    assert [value.name for value in graph.input] == [
        column.name for column in task.signature.inputs
    ]
    assert [shape(value) for value in graph.input] == [["rows", 1]] * 13
    assert {
        value.name: (value.type.tensor_type.elem_type, shape(value)) for value in graph.output
    } == {
        "label": (onnx.TensorProto.INT64, ["rows"]),
        "probability": (onnx.TensorProto.FLOAT, ["rows"]),
    }


def test_a_vector_input_and_a_vector_of_probabilities_keep_their_shape() -> None:
    task, table = declared_task("digits"), digits()
    graph = export(fitted(task, table, C="1"), task.signature)
    assert [(value.name, shape(value)) for value in graph.graph.input] == [("pixels", ["rows", 64])]
    outputs = run_onnx(graph.SerializeToString(), {"pixels": table.features[:7]})
    assert {name: (value.shape, str(value.dtype)) for name, value in outputs.items()} == {
        "label": ((7,), "int64"),
        "probabilities": ((7, 10), "float32"),
    }


def test_a_graph_of_another_fit_fails_the_parity() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    weak, strong = fitted(task, table, C="0.02"), fitted(task, table, C="0.03")
    alike = np.flatnonzero(weak.predict(table.features) == strong.predict(table.features))
    with pytest.raises(
        ParityError, match="probabilities of the ONNX graph differ from the estimator's by"
    ):
        check_parity(task, Served.of(export(weak, task.signature)), strong, table.features[alike])


def test_a_graph_with_an_inverted_label_fails_the_parity() -> None:
    task, table = declared_task("heart"), synthetic_heart()
    wrong = fitted(task, Table.of(table.features, 1 - table.labels), C="0.1")
    right = fitted(task, table, C="0.1")
    with pytest.raises(ParityError, match="labels of the ONNX graph differ"):
        check_parity(task, Served.of(export(wrong, task.signature)), right, table.features)


def shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def quantity() -> tuple[Task, Table]:
    """Return a task of units from an INT64 code and a price, with a noisy linear truth."""
    random = np.random.default_rng(3)
    code, price = random.integers(0, 5, 200), random.uniform(1, 9, 200)
    inputs = (
        Column(name="code", datatype=Datatype.INT64),
        Column(name="price", datatype=Datatype.FP32),
    )
    task = replace(
        declared_task("heart"), name="units", target=Quantity(), metrics=(WAPE, MAE),
        selection=MAE, datasets=("units",),
        signature=Signature(inputs=inputs, outputs=(Column(name="units", datatype=Datatype.FP32),)),
        estimators=lambda _: {"boosting": GradientBoostingRegressor(random_state=0),
        "mean": DummyRegressor()},
    )  # fmt: skip
    return task, Table.of(
        np.stack([code, price], axis=1), 100 * code - 3 * price + random.normal(size=200)
    )


def test_a_regressor_is_chosen_scored_and_exported() -> None:
    task, table = quantity()
    split = task.split.hold_out(table, task.target, "sale")
    result = fit(task, parse_parameters(task, {}), split)
    assert result.results.chosen == "boosting"
    assert result.results.test["wape"] < 0.1 < result.results.baselines["constant"]["wape"]
    outputs = result.served.run(task.feeds(split.test.features))
    assert outputs["units"].shape == (len(split.test),)
    np.testing.assert_allclose(
        outputs["units"], result.estimator.predict(split.test.features), rtol=1e-4
    )


def test_a_graph_of_another_regressor_fails_the_parity() -> None:
    task, table = quantity()
    right, wrong = (
        fitted(task, table),
        clone(fitted(task, table)).set_params(n_estimators=5).fit(table.features, table.labels),
    )
    with pytest.raises(
        ParityError, match="values of the ONNX graph differ from the estimator's by"
    ):
        check_parity(task, Served.of(export(wrong, task.signature)), right, table.features)


def test_texts_are_classified_inside_the_graph() -> None:
    texts = np.array([["good ship"], ["fine ship"], ["bad boat"], ["poor boat"]] * 10, dtype=object)
    table = Table.of(texts, np.array([1, 1, 0, 0] * 10))
    inputs = (Column(name="text", datatype=Datatype.BYTES),)
    task = replace(
        declared_task("heart"),
        signature=Signature(inputs=inputs, outputs=declared_task("heart").signature.outputs),
    )
    words = make_pipeline(
        ColumnTransformer([("words", CountVectorizer(lowercase=False), 0)]), LogisticRegression()
    )
    words.fit(table.features, table.labels)
    graph = Served.of(export(words, task.signature))
    assert check_parity(task, graph, words, table.features) < 1e-4
    assert example(task, table).count("ship") + example(task, table).count("boat") == 1
