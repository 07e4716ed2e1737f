"""Trees of CatBoost are packaged by its own ONNX export, where that has its predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import slipway
from catboost import CatBoost, CatBoostClassifier, CatBoostRegressor
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from slipway.errors import Refused, WrongParameter
from slipway.packaging.frames import frame_rows
from slipway.packaging.model_file import read_model
from slipway.packaging.package import package
from slipway.registry.tracking import Tracking
from slipway_contract.registry import ArtifactFormat

from tests.sdk.churn import customers

TABLE, LEFT = customers(1300)
NUMBERS = TABLE[["monthly fee", "age"]]
LEAVES = (LEFT == "leaves").astype(int)
THIRDS = np.where(TABLE["age"] > 60, "old", np.where(TABLE["age"] < 30, "young", "middle"))
AMOUNT = TABLE["age"] * 1.5 + LEAVES
SMALL: dict[str, Any] = {
    "iterations": 20, "verbose": 0, "thread_count": 1, "allow_writing_files": False,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", ["table", "array", "pipeline", "file"])
@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (CatBoostClassifier(**SMALL), LEAVES),
        (CatBoostClassifier(**SMALL), LEFT),
        (CatBoostClassifier(**SMALL, nan_mode="Max"), THIRDS),
        (CatBoostRegressor(**SMALL), AMOUNT),
        (CatBoostRegressor(**SMALL, loss_function="Quantile:alpha=0.9"), AMOUNT),
    ],
    ids=["codes", "texts", "three", "quantity", "quantile"],
)
def test_trees_are_an_onnx_graph_with_their_predictions(
    estimator: Any, target: Any, form: str, tmp_path: Path
) -> None:
    model, table = estimator.copy(), NUMBERS
    if form == "pipeline":
        table = TABLE[["monthly fee", "age", "city", "note"]]
        model = make_pipeline(
            ColumnTransformer(
                [
                    ("numbers", "passthrough", ["monthly fee", "age"]),
                    ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                    ("note", TfidfVectorizer(), "note"),
                ],
                sparse_threshold=0,
            ),
            model,
        )
    if form == "array":
        table = NUMBERS.set_axis(["x0", "x1"], axis=1)
        model.fit(table.to_numpy()[:1000], target[:1000])
    else:
        model.fit(table[:1000], target[:1000])
    expected = np.asarray(model.predict(table.to_numpy() if form == "array" else table)).ravel()
    if form == "file":
        model.save_model(str(tmp_path / "trees.cbm"))
        model = read_model(tmp_path / "trees.cbm")
    packaged = package(model, {"reference": table[:1000], "evaluation": table[1000:]})
    assert packaged.form is ArtifactFormat.ONNX
    assert packaged.origin.startswith("An estimator of catboost ")
    assert packaged.parity is not None
    assert packaged.parity.rows >= len(table)
    assert packaged.signature.inputs[0].missing
    outputs = packaged.predict_rows(frame_rows(table, packaged.signature.inputs))
    if expected.dtype.kind == "f":
        assert outputs["value"] == pytest.approx(expected, rel=1e-4)
    else:
        assert outputs["label"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("estimator", "table", "target", "reason"),
    [
        (
            CatBoostClassifier(**SMALL, cat_features=["plan"]), TABLE[["age", "plan"]], LEFT,
            r"CatBoostClassifier encodes the categories of 'plan' itself.*: give numbers to it, by "
            r"a pipeline with make_column_transformer\(\(OneHotEncoder",
        ),
        (
            CatBoostClassifier(**SMALL, text_features=["note"]), TABLE[["age", "note"]], LEFT,
            r"encodes the texts of 'note' itself.*TfidfVectorizer\(\), 'note'\), remainder",
        ),
        (
            CatBoostClassifier(**SMALL), NUMBERS, LEFT == "leaves",
            "booleans as labels, fit it on 0 and 1 or on texts",
        ),
        (
            CatBoostRegressor(**SMALL, loss_function="Poisson"), NUMBERS, AMOUNT,
            "the loss function Poisson, which transforms predictions",
        ),
        (
            CatBoostRegressor(**SMALL, loss_function="MultiRMSE"), NUMBERS,
            np.stack([AMOUNT, -AMOUNT], axis=1), "the loss function MultiRMSE",
        ),
    ],
    ids=["categories", "texts", "booleans", "poisson", "several"],
)  # fmt: skip
def test_trees_without_an_equal_export_are_refused_with_the_reason(
    estimator: Any, table: pd.DataFrame, target: Any, reason: str
) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        package(estimator.copy().fit(table, target), {"reference": table})
    assert "unscaled" not in str(refused.value)


def test_the_base_class_is_rejected_with_those_that_are_packaged() -> None:
    with pytest.raises(WrongParameter, match="give a fitted CatBoostClassifier or CatBoostRegr"):
        package(CatBoost(SMALL).fit(NUMBERS, AMOUNT), {"reference": NUMBERS})
    with pytest.raises(Refused, match="CatBoostRegressor: the estimator is not fitted"):
        package(CatBoostRegressor(), {"reference": NUMBERS})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trees.cbm").write_bytes(b"trees")
    with pytest.raises(Refused, match=r"trees.cbm is not a model of CatBoost that can be read"):
        read_model(tmp_path / "trees.cbm")


def test_a_version_has_the_scores_of_the_trees(tracking: Tracking) -> None:
    model = CatBoostRegressor(**SMALL).fit(NUMBERS[:1000], AMOUNT[:1000])
    version = slipway.log_model(
        model,
        "catboost-trees",
        evaluation=(NUMBERS[1000:], AMOUNT[1000:]),
        reference=NUMBERS[:1000],
    )
    error = np.abs(model.predict(NUMBERS[1000:]) - AMOUNT[1000:]).mean()
    assert tracking.metrics(version)["evaluation_mae"] == pytest.approx(error, rel=1e-4)
