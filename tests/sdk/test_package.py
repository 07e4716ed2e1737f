"""A fitted estimator is packaged as ONNX with one typed input per column, otherwise as skops."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor
from slipway.errors import Refused, WrongParameter
from slipway.packaging.estimator import Estimator
from slipway.packaging.frames import frame_rows
from slipway.packaging.graph import check_parity
from slipway.packaging.inference import run_onnx
from slipway.packaging.package import package
from slipway_contract.errors import InvalidInput
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from tests.sdk.churn import customers, fitted


def columns(rows: dict[str, Any]) -> dict[str, Any]:
    return {name: array.reshape(-1, 1) for name, array in rows.items()}


def test_a_pipeline_of_mixed_columns_is_an_onnx_graph_with_its_predictions() -> None:
    model, train, held_out, _ = fitted()
    packaged = package(model, {"reference": train, "evaluation": held_out})
    assert packaged.form is ArtifactFormat.ONNX
    assert packaged.parity is not None
    # All rows of both frames, and five unusual texts for each of three text inputs.
    assert packaged.parity.rows >= len(train) + len(held_out)
    unseen, _ = customers(50, seed=9)
    given = run_onnx(packaged.content, columns(frame_rows(unseen, packaged.signature.inputs)))
    assert given["label"].tolist() == model.predict(unseen).tolist()
    assert given["probability"] == pytest.approx(model.predict_proba(unseen)[:, 1], abs=1e-5)


def test_the_graph_has_one_typed_input_for_each_column() -> None:
    model, train, _, _ = fitted()
    inputs = {
        column.name: column for column in package(model, {"reference": train}).signature.inputs
    }
    assert [(c.datatype, c.missing) for c in inputs.values()] == [
        (Datatype.FP32, True), (Datatype.INT64, False), (Datatype.BOOL, False),
        (Datatype.BYTES, True), (Datatype.BYTES, True), (Datatype.BYTES, False),
        (Datatype.BYTES, False),
    ]  # fmt: skip
    assert inputs["plan"].categories == ("basic", "gold")


def test_words_of_all_languages_are_read_as_the_pipeline_reads_them() -> None:
    model, train, _, _ = fitted()
    packaged = package(model, {"reference": train})
    rows = train[:3].assign(note=["GRÖSSE größe", "日本語 x_1", "don't, e\u0301te\u0301"])
    given = run_onnx(packaged.content, columns(frame_rows(rows, packaged.signature.inputs)))
    assert given["probability"] == pytest.approx(model.predict_proba(rows)[:, 1], abs=1e-5)


TABLE, LEFT = customers(200)
NUMBERS = TABLE[["age", "active"]].assign(fee=TABLE["monthly fee"].fillna(50))
TARGET = NUMBERS["fee"] + NUMBERS["age"]


@pytest.mark.parametrize(
    ("model", "table", "target", "form"),
    [
        (make_pipeline(StandardScaler(), LinearRegression()), NUMBERS, TARGET, "onnx"),
        (HistGradientBoostingClassifier(max_iter=5), TABLE[["monthly fee", "age"]], LEFT, "onnx"),
        (
            make_pipeline(
                make_column_transformer(
                    (OrdinalEncoder(), ["plan"]), remainder="passthrough"
                ),
                DecisionTreeRegressor(max_depth=3),
            ),
            TABLE[["plan", "age"]], TARGET, "onnx",
        ),
        (
            make_pipeline(
                make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["age"])),
                LinearRegression(),
            ),
            TABLE[["city", "age"]], np.stack([TARGET, -TARGET], axis=1), "onnx",
        ),
        (
            make_pipeline(
                make_column_transformer(
                    (SimpleImputer(strategy="most_frequent", add_indicator=True), ["city"]),
                    (Nystroem(n_components=3), ["age"]),
                ),
                make_column_transformer((OneHotEncoder(), [0, 1]), remainder="passthrough"),
                LinearRegression(),
            ),
            TABLE[["city", "age"]], TARGET, "skops",
        ),
        (
            make_pipeline(FunctionTransformer(), StandardScaler(), LogisticRegression()),
            NUMBERS, LEFT, "onnx",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)  # fmt: skip
def test_an_estimator_is_packaged_as_onnx_where_that_is_equivalent(
    model: Any, table: pd.DataFrame, target: Any, form: str
) -> None:
    model.fit(table, target)
    packaged = package(model, {"reference": table})
    assert packaged.form == form
    assert packaged.parity is not None
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    first = next(iter(outputs.values()))
    expected = model.predict(table)
    if expected.dtype.kind == "f":
        assert first == pytest.approx(expected, rel=1e-4)
    else:
        assert first.tolist() == expected.tolist()


@pytest.mark.parametrize("names", [(0, 1), ("leaves", "stays")], ids=["codes", "texts"])
@pytest.mark.parametrize(
    "model",
    [
        TunedThresholdClassifierCV(
            LogisticRegression(), scoring="balanced_accuracy", random_state=0
        ),
        TunedThresholdClassifierCV(
            make_pipeline(StandardScaler(), LogisticRegression()), scoring="f1_macro"
        ),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.31),
        FixedThresholdClassifier(LogisticRegression()),
    ],
    ids=["tuned", "tuned-pipeline", "fixed", "auto"],
)
def test_a_graph_has_the_decision_threshold(model: Any, names: tuple[Any, Any]) -> None:
    model, table = clone(model), RARE[0]
    model.fit(table, np.where(RARE[1], names[1], names[0]))
    packaged = package(model, {"reference": table})
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    assert packaged.form is ArtifactFormat.ONNX
    assert outputs["label"].tolist() == model.predict(table).tolist()


def test_the_threshold_of_a_pipeline_of_columns_is_in_its_graph() -> None:
    model, train, _, _ = fitted()
    _, left = customers()
    tuned = TunedThresholdClassifierCV(clone(model), scoring="f1_macro").fit(train, left[:300])
    packaged = package(tuned, {"reference": train})
    outputs = packaged.predict_rows(frame_rows(train, packaged.signature.inputs))
    assert packaged.form is ArtifactFormat.ONNX
    assert outputs["label"].tolist() == tuned.predict(train).tolist()
    assert packaged.signature.inputs[4].categories == ("shop", "web")


@pytest.mark.parametrize(("pos_label", "names"), [(0, (0, 1)), ("leaves", ("leaves", "stays"))])
def test_a_graph_has_the_threshold_of_the_first_class(pos_label: Any, names: Any) -> None:
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.9, pos_label=pos_label)
    model.fit(RARE[0], np.where(RARE[1], names[1], names[0]))
    packaged = package(model, {"reference": RARE[0]})
    outputs = packaged.predict_rows(frame_rows(RARE[0], packaged.signature.inputs))
    assert outputs["label"].tolist() == model.predict(RARE[0]).tolist()


def rare() -> tuple[pd.DataFrame, Any]:
    """Return a number and a rare class, for which a threshold below one half is best."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"x": random.normal(size=400)})
    return table, (table["x"] + random.normal(size=400) > 1.5).to_numpy()


RARE = rare()


@pytest.mark.parametrize("method", ["without the threshold", "with unknown labels"])
def test_a_graph_with_other_labels_is_not_equivalent(method: str) -> None:
    table, target = RARE
    model = FixedThresholdClassifier(LogisticRegression(), threshold=0.31)
    model.fit(table, np.where(target, "stays", "leaves"))
    packaged = package(model, {"reference": table})
    rows = frame_rows(table, packaged.signature.inputs)
    estimator = Estimator(model, "model", packaged.signature)
    if method == "without the threshold":
        labels = model.estimator_.predict(table).astype(object)
    else:
        labels = np.where(model.predict(table) == "stays", "stayz", "leaves").astype(object)

    def given(rows: Any) -> Any:
        return {**packaged.predict_rows(rows), "label": labels}

    with pytest.raises(Refused, match="parity is broken: output 'label'"):
        check_parity(given, estimator, [(rows, table)], "the model")


def encoded(encoder: Any, columns: Any, *, first: bool = False) -> Any:
    select = encoder if first else make_column_transformer((encoder, columns))
    return make_pipeline(select, LinearRegression())


@pytest.mark.parametrize(
    ("model", "name", "unknown", "problem"),
    [
        (encoded(OrdinalEncoder(), ["channel"]), "channel", "fax", "not one of shop, web"),
        (encoded(OneHotEncoder(), [0]), "channel", "fax", "not one of shop, web"),
        (encoded(OrdinalEncoder(), slice("channel", "channel")), "channel", "fax", "not one of"),
        (encoded(OrdinalEncoder(), [], first=True), "channel", "fax", "not one of shop, web"),
        (
            encoded(
                make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder()), [True]
            ),
            "channel", "fax", "not one of shop, web",
        ),
        (
            GridSearchCV(encoded(OneHotEncoder(), ["channel"]), {"linearregression__n_jobs": [1]}),
            "channel", "fax", "not one of shop, web",
        ),
        (encoded(OrdinalEncoder(), ["level"]), "level", 7, "7 is not one of the codes 0, 1, 2"),
        (encoded(OneHotEncoder(), ["level"]), "level", 7, "7 is not one of the codes 0, 1, 2"),
    ],
)  # fmt: skip
def test_a_value_that_an_encoder_does_not_know_is_rejected(
    model: Any, name: str, unknown: Any, problem: str
) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"channel": TABLE["channel"].fillna("web"), "level": 0})[[name]]
    if name == "level":
        table["level"] = random.integers(0, 3, len(table))
    model.fit(table, TARGET)
    signature = package(model, {"reference": table}).signature
    signature.check(signature.request([{name: table[name].tolist()[0]}]).inputs)
    with pytest.raises(InvalidInput, match=problem):
        signature.check(signature.request([{name: unknown}]).inputs)


def test_a_missing_text_is_accepted_where_it_is_imputed() -> None:
    inner = make_pipeline(SimpleImputer(strategy="most_frequent"), OrdinalEncoder())
    table = TABLE[["channel"]]
    packaged = package(encoded(inner, ["channel"]).fit(table, TARGET), {"reference": table})
    column = packaged.signature.inputs[0]
    assert (packaged.form, column.categories) == (ArtifactFormat.ONNX, ("shop", "web"))
    packaged.signature.check(packaged.signature.request([{"channel": None}]).inputs)


def many() -> pd.DataFrame:
    return pd.DataFrame({"channel": [f"channel {number}" for number in range(len(TABLE))]})


@pytest.mark.parametrize(
    ("model", "table", "signature"),
    [
        (encoded(OrdinalEncoder(), ["channel"]), many(), None),
        (encoded(OneHotEncoder(), ["channel"]), many(), None),
        (
            encoded(OrdinalEncoder(), ["channel"]), TABLE[["channel"]].fillna("web"),
            Signature(
                inputs=(Column(name="channel", datatype=Datatype.BYTES),),
                outputs=(Column(name="value", datatype=Datatype.FP32),),
            ),
        ),
    ],
    ids=["texts", "one-hot", "signature"],
)  # fmt: skip
def test_an_encoder_whose_values_are_not_listed_raises_an_error_in_serving(
    model: Any, table: Any, signature: Signature | None
) -> None:
    model.fit(table, TARGET)
    packaged = package(model, {"reference": table}, signature)
    assert packaged.form is ArtifactFormat.SKOPS
    with pytest.raises(Refused, match="unknown categories"):
        packaged.predict_rows({"channel": np.array(["fax"], object)})


def test_a_model_of_texts_alone_is_packaged_as_skops() -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TABLE["note"], LEFT)
    packaged = package(model, {"reference": TABLE[["note"]]})
    assert (packaged.form, packaged.signature.inputs[0].name) == (ArtifactFormat.SKOPS, "note")


def test_code_in_a_pipeline_is_refused_with_its_name_and_the_remedy() -> None:
    model = make_pipeline(FunctionTransformer(double), LinearRegression()).fit(NUMBERS, TARGET)
    with pytest.raises(Refused, match=r"double, which could run any code; use another transf"):
        package(model, {"reference": NUMBERS})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "inputs", "form"),
    [
        (HistGradientBoostingRegressor(max_iter=30), ["many", "fee", "plan"], "onnx"),
        (
            HistGradientBoostingRegressor(max_iter=30, categorical_features=["code"]),
            ["fee", "code"], "onnx",
        ),
        (
            make_pipeline(
                make_column_transformer(
                    (OrdinalEncoder(), ["code", "plan"]), remainder="passthrough"
                ),
                HistGradientBoostingRegressor(max_iter=30, categorical_features=[0, 1]),
            ),
            ["fee", "plan", "code"], "skops",
        ),
        (
            GridSearchCV(HistGradientBoostingRegressor(), {"max_iter": [3]}, cv=2),
            ["fee", "plan"], "onnx",
        ),
    ],
    ids=["from-dtype", "names", "positions", "search"],
)  # fmt: skip
def test_categories_inside_of_boosting_are_served(model: Any, inputs: list[str], form: str) -> None:
    random = np.random.default_rng(0)
    rows = 1000
    values = random.normal(size=200)
    many, code = random.integers(0, 200, rows), random.integers(0, 9, rows)
    table = pd.DataFrame(
        {
            "many": pd.Categorical([f"city {number}" for number in many]),
            "fee": random.integers(0, 90, rows) / 2,
            "code": code * 3,
            "plan": pd.Categorical(random.choice(["basic", "gold", "silver"], rows)),
        }
    )
    target = values[many] + values[code] * 3 + table["fee"] / 50 + (table["plan"] == "gold")
    if "many" in inputs:
        table.loc[::7, ["many", "plan"]] = None
        table.loc[::9, "fee"] = np.nan
    model.fit(table[inputs], target)
    packaged = package(model, {"reference": table[inputs]})
    assert packaged.form == form
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    assert outputs["value"] == pytest.approx(model.predict(table[inputs]), abs=1e-4)
    if "many" in inputs:  # a text, of which others than those of the training are missing values
        other = table[inputs].iloc[[0]].assign(many=pd.Categorical(["elsewhere"]))
        given = packaged.predict_rows(frame_rows(other, packaged.signature.inputs))
        assert given["value"] == pytest.approx(model.predict(other), abs=1e-4)


def test_numbers_are_fp64_where_fp32_changes_a_prediction() -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"fee": random.normal(50, 9, 900).round(2)})
    table["income"] = random.lognormal(8, 1, len(table))
    forest = make_pipeline(StandardScaler(), RandomForestRegressor(20, random_state=0))
    forest.fit(table, random.normal(size=len(table)))
    packaged = package(forest, {"reference": table})
    assert packaged.form is ArtifactFormat.SKOPS
    assert {column.datatype for column in packaged.signature.inputs} == {Datatype.FP64}
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    assert outputs["value"] == pytest.approx(forest.predict(table), rel=1e-6)


def test_a_search_is_packaged_as_its_best_estimator() -> None:
    forest = make_pipeline(StandardScaler(), RandomForestRegressor(10, random_state=0))
    search = GridSearchCV(forest, {"randomforestregressor__max_depth": [3, 9]}, cv=2)
    search.fit(NUMBERS, TARGET)
    packaged = package(search, {"reference": NUMBERS})
    assert packaged.parity is not None
    assert packaged.content


@pytest.mark.parametrize("columns", [["age", "fee"], ["fee"]])
def test_the_graph_of_an_imputer_has_its_indicator(columns: list[str]) -> None:
    table = TABLE.rename(columns={"monthly fee": "fee"})[columns]
    model = make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()).fit(table, TARGET)
    packaged = package(model, {"reference": table})
    assert packaged.form is ArtifactFormat.ONNX
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    assert outputs["value"] == pytest.approx(model.predict(table), rel=1e-4)


def double(table: Any) -> Any:
    return table * 2


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (NUMBERS.drop(columns="age"), "reference: has no column 'age', which the model was fitted"),
        (NUMBERS.assign(more=1), "reference: the model was not fitted on the column 'more'"),
    ],
)
def test_other_columns_than_the_fitted_ones_are_refused(table: pd.DataFrame, problem: str) -> None:
    model = LinearRegression().fit(NUMBERS, TARGET)
    with pytest.raises(WrongParameter, match=problem):
        package(model, {"reference": table})


def test_an_object_that_is_no_estimator_is_refused() -> None:
    with pytest.raises(WrongParameter, match="model: is a dict; give a fitted estimator"):
        package({}, {"reference": NUMBERS})


def test_an_estimator_that_is_not_fitted_is_refused() -> None:
    with pytest.raises(Refused, match="not fitted"):
        package(make_pipeline(ColumnTransformer([]), LinearRegression()), {"reference": NUMBERS})
