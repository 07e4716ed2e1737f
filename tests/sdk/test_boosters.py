"""Estimators of XGBoost and LightGBM are packaged as ONNX graphs with their predictions."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from slipway.errors import Refused, WrongParameter
from slipway.packaging.boosters import register_converters
from slipway.packaging.package import package
from slipway_contract.registry import ArtifactFormat
from xgboost import XGBClassifier, XGBRegressor, XGBRFRegressor

from tests.sdk.churn import customers

ROWS = 1000
TABLE, LEFT = customers(ROWS + 300)
NUMBERS = TABLE[["monthly fee", "age"]].set_axis(["fee", "age"], axis=1)
LEAVES = (LEFT == "leaves").astype(int)
THIRDS = np.arange(len(TABLE)) % 3
AMOUNT = TABLE["age"] * 1.5 + LEAVES
SMALL: dict[str, Any] = {"n_estimators": 15, "n_jobs": 1}
QUIET = SMALL | {"verbose": -1}


def pipeline(estimator: Any, numbers: Any = "passthrough", **options: Any) -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["monthly fee", "age"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
            ("note", TfidfVectorizer(), "note"),
        ],
        **options,
    )
    return make_pipeline(columns, estimator)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (XGBClassifier(**SMALL), LEAVES),
        (XGBClassifier(**SMALL), THIRDS),
        (XGBRegressor(**SMALL), AMOUNT),
        (LGBMClassifier(**QUIET), LEFT),
        (LGBMClassifier(**QUIET), THIRDS),
        (LGBMRegressor(**QUIET), AMOUNT),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # of LightGBM
def test_boosted_trees_are_an_onnx_graph_with_their_predictions(
    estimator: Any, target: Any, mixed: bool
) -> None:
    table = TABLE if mixed else NUMBERS
    table = table.drop(columns=["active", "channel"]) if mixed else table
    model = pipeline(estimator, sparse_threshold=0) if mixed else estimator
    fitted = model.fit(table[:300], target[:300])
    packaged = package(fitted, {"reference": table[:300], "evaluation": table[300:]})
    assert packaged.form is ArtifactFormat.ONNX
    assert packaged.parity is not None
    assert packaged.parity.rows >= ROWS
    assert packaged.signature.inputs[0].missing
    library = type(estimator).__module__.partition(".")[0]
    assert packaged.origin.startswith(f"An estimator of {library} ")


def test_scaled_numbers_are_refused_with_the_remedy() -> None:
    table = TABLE.drop(columns=["active", "channel"])
    fitted = pipeline(XGBRegressor(**SMALL), StandardScaler()).fit(table[:300], AMOUNT[:300])
    with pytest.raises(Refused, match=r"parity is broken.*pass numbers to the trees unscaled"):
        package(fitted, {"reference": table})


def test_absent_values_of_sparse_columns_are_refused_with_the_remedy() -> None:
    random = np.random.default_rng(0)
    words = ["red", "green", "blue", "black", "white", "grey"]
    table = pd.DataFrame({"city": random.choice(words, 300), "note": random.choice(words, 300)})
    columns = ColumnTransformer([("all", OneHotEncoder(), ["city", "note"])])
    wanted = (table["city"] == "red") * 2.0 + (table["note"] == "blue")
    fitted = make_pipeline(columns, XGBRegressor(**SMALL)).fit(table, wanted)
    with pytest.raises(Refused, match=r"columns dense \(ColumnTransformer"):
        package(fitted, {"reference": table})
    dense = make_pipeline(columns.set_params(sparse_threshold=0), XGBRegressor(**SMALL))
    packaged = package(dense.fit(table, wanted), {"reference": table})
    assert packaged.form is ArtifactFormat.ONNX


@pytest.mark.parametrize(
    "estimator",
    [XGBRegressor(**SMALL, enable_categorical=True), LGBMRegressor(**QUIET)],
    ids=["xgboost", "lightgbm"],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # of LightGBM
def test_categories_inside_of_the_trees_are_refused_with_the_remedy(estimator: Any) -> None:
    table = TABLE[["age", "plan"]]
    with pytest.raises(Refused, match=r"splits the categories of 'plan' itself.*: encode them in"):
        package(estimator.fit(table, AMOUNT), {"reference": table})
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["plan"]),
        remainder="passthrough", sparse_threshold=0,
    )  # fmt: skip
    model = make_pipeline(columns, clone(estimator)).fit(table, AMOUNT)
    assert package(model, {"reference": table}).form is ArtifactFormat.ONNX


def test_an_estimator_without_a_converter_is_refused_with_its_name() -> None:
    fitted = XGBRFRegressor(**SMALL).fit(NUMBERS, AMOUNT)
    with pytest.raises(Refused, match="XGBRFRegressor"):
        package(fitted, {"reference": NUMBERS})


def test_a_missing_extra_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("onnxmltools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnxmltools", None)
    with pytest.raises(WrongParameter, match=r"run: pip install 'slipway\[xgboost\]'"):
        register_converters(["xgboost"])
