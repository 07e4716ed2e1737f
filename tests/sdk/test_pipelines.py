"""Pipelines as users write them: each is served with its own predictions, or refused truly.

The table in docs/how-to/logging.md has one line for each of them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    OneHotEncoder,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from slipway.errors import Refused
from slipway.packaging.artifact import write
from slipway.packaging.package import package
from slipway_contract.signature import Signature
from xgboost import XGBClassifier, XGBRegressor

from tests.documents import ROOT
from tests.serving.artifacts import write_model_settings
from tests.support.predictor_process import started

PAGE = ROOT / "docs/how-to/logging.md"
ROWS, FITTED = 1000, 700
NUMBERS, TEXTS = ["fee", "income", "age"], ["city", "plan"]
SMALL: dict[str, Any] = {"n_estimators": 20, "n_jobs": 1}
QUIET: dict[str, Any] = {
    "iterations": 20,
    "thread_count": 1,
    "verbose": 0,
    "allow_writing_files": False,
}


def customers() -> pd.DataFrame:
    """Return customers with numbers, texts, categories, and missing values of each."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "fee": random.normal(50, 20, ROWS).round(2),
            "income": random.lognormal(8, 1, ROWS),
            "age": random.integers(18, 80, ROWS),
            "active": random.random(ROWS) > 0.4,
            "city": random.choice(["Bonn", "Essen", "Köln"], ROWS),
            "plan": pd.Categorical(random.choice(["basic", "gold", "silver"], ROWS)),
            "note": random.choice(["great service", "too SLOW!", "Größe x_1", "cancelled"], ROWS),
        }
    )
    table.loc[::7, "fee"] = np.nan
    table.loc[::5, "city"] = None
    table.loc[::11, "plan"] = None
    return table


TABLE = customers()
_SCORE = (TABLE["age"] - 50) / 10 + TABLE["active"] + (TABLE["plan"] == "gold") * 2
_NOISE = np.random.default_rng(1).normal(0, 1, ROWS)
LEFT = pd.Series(np.where(_SCORE + _NOISE > 1, "leaves", "stays"))
CODES = (LEFT == "leaves").astype(int)
LEVEL = pd.Series(np.select([_SCORE < -1, _SCORE < 1], ["low", "middle"], "high"))
AMOUNT = 3.3 * _SCORE + TABLE["income"] / 5000


def columns(*more: Any, numbers: Any = None, **options: Any) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", numbers or make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("categories", OneHotEncoder(handle_unknown="ignore"), TEXTS),
            *more,
        ],
        **options,
    )


def per_thousand(table: Any) -> Any:
    return table / 1000


@dataclass(frozen=True)
class Case:
    """A pipeline, and how it is packaged."""

    title: str
    """The pipeline, for the table of the page."""
    build: Callable[[], Any]
    inputs: list[str]
    target: Any
    package: str
    """``onnx``, ``skops`` or ``refused``."""
    cell: str = ""
    """What the page adds to the package: the reason."""
    reason: str = ""
    """A pattern of the reason in the model card, or in the error."""

    @property
    def line(self) -> str:
        kind = {"onnx": "ONNX", "skops": "skops"}.get(self.package, self.package)
        return f"| {self.title} | {kind}{self.cell and ': '}{self.cell} |"


CASES = [
    Case(
        "`ColumnTransformer` by column names: numbers, categories, `TfidfVectorizer`; text labels",
        lambda: make_pipeline(columns(("note", TfidfVectorizer(), "note")), LogisticRegression()),
        [*NUMBERS, *TEXTS, "note"], LEFT, "onnx",
    ),
    Case(
        "`FunctionTransformer` with an own function",
        lambda: make_pipeline(FunctionTransformer(per_thousand), SimpleImputer(), Ridge()),
        NUMBERS, AMOUNT, "refused", "the function would be code in the file",
        r"it contains .*per_thousand, which could run any code; ",
    ),
    Case(
        "`TfidfVectorizer` over one text, without columns",
        lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
        ["note"], LEFT, "skops", "a graph would tokenize other texts differently",
        "its graph would tokenize texts differently",
    ),
    Case(
        "`TfidfVectorizer(analyzer=\"char_wb\")` in a `ColumnTransformer`",
        lambda: make_pipeline(
            make_column_transformer((TfidfVectorizer(analyzer="char_wb"), "note")),
            LogisticRegression(),
        ),
        ["note"], LEFT, "skops", "ONNX has no such tokenizer", "only tokenizer='word'",
    ),
    Case(
        "`HistGradientBoostingClassifier` with columns of the type `category`",
        lambda: HistGradientBoostingClassifier(max_iter=20),
        [*NUMBERS, "plan"], LEVEL, "onnx",
    ),
    Case(
        "several quantities in one output",
        lambda: make_pipeline(columns(), Ridge()),
        [*NUMBERS, *TEXTS], np.stack([AMOUNT, -2 * AMOUNT], axis=1), "onnx",
    ),
    Case(
        "`MultiOutputClassifier`: several labels",
        lambda: make_pipeline(columns(), MultiOutputClassifier(LogisticRegression())),
        [*NUMBERS, *TEXTS], np.stack([LEFT, LEVEL], axis=1),
        "refused", "log one classifier for each label",
        "the estimator has 2 classification outputs: fit one estimator for each",
    ),
    Case(
        "a random forest over numbers, with labels of three texts",
        lambda: RandomForestClassifier(20, random_state=0),
        ["income", "age", "active"], LEVEL, "onnx",
    ),
    Case(
        "a random forest over scaled numbers",
        lambda: make_pipeline(columns(), RandomForestClassifier(20, random_state=0)),
        [*NUMBERS, *TEXTS], LEVEL, "skops", "trees compare numbers exactly, and the graph rounds",
        "parity is broken",
    ),
    Case(
        "sparse columns: one-hot, TF-IDF, `MaxAbsScaler`, `SGDClassifier`",
        lambda: make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), TEXTS), (TfidfVectorizer(), "note"),
                sparse_threshold=1.0,
            ),
            MaxAbsScaler(), SGDClassifier(loss="log_loss", random_state=0),
        ),
        [*TEXTS, "note"], LEFT, "onnx",
    ),
    Case(
        "`SimpleImputer(add_indicator=True)`",
        lambda: make_pipeline(
            columns(numbers=make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())),
            LogisticRegression(),
        ),
        [*NUMBERS, *TEXTS], LEFT, "onnx",
    ),
    Case(
        "`CalibratedClassifierCV` behind a `ColumnTransformer`",
        lambda: make_pipeline(columns(), CalibratedClassifierCV(LinearSVC(), cv=3)),
        [*NUMBERS, *TEXTS], LEFT, "onnx",
    ),
    Case(
        "`CalibratedClassifierCV` around a pipeline",
        lambda: CalibratedClassifierCV(make_pipeline(columns(), LinearSVC()), cv=3),
        [*NUMBERS, *TEXTS], LEFT, "skops", "ONNX export has no such model",
        "its converter failed",
    ),
    Case(
        "`VotingClassifier(voting=\"soft\")`",
        lambda: make_pipeline(
            columns(),
            VotingClassifier(
                [("linear", LogisticRegression()), ("bayes", GaussianNB())],
                voting="soft",
            ),
        ),
        [*NUMBERS, *TEXTS], LEFT, "onnx",
    ),
    Case(
        "`TunedThresholdClassifierCV` of a decision function",
        lambda: TunedThresholdClassifierCV(make_pipeline(columns(), LinearSVC())),
        [*NUMBERS, *TEXTS], LEFT, "skops", "with the threshold alone, without its search",
        "a threshold of decision_function",
    ),
    Case(
        "`XGBClassifier` over numbers with missing values",
        lambda: XGBClassifier(**SMALL), NUMBERS, CODES, "onnx",
    ),
    Case(
        "`XGBRegressor` behind a dense `ColumnTransformer`",
        lambda: make_pipeline(
            columns(numbers="passthrough", sparse_threshold=0), XGBRegressor(**SMALL)
        ),
        [*NUMBERS, *TEXTS], AMOUNT, "onnx",
    ),
    Case(
        "`XGBClassifier` over scaled numbers or sparse columns",
        lambda: make_pipeline(columns(), XGBClassifier(**SMALL)),
        [*NUMBERS, *TEXTS], CODES, "refused", "pass numbers unscaled, and columns dense",
        r"parity is broken.*pass numbers to the trees unscaled, and columns dense",
    ),
    Case(
        "`XGBClassifier(enable_categorical=True)` with columns of the type `category`",
        lambda: XGBClassifier(**SMALL, enable_categorical=True),
        [*NUMBERS, "plan"], CODES, "refused", "encode the categories by `OneHotEncoder`",
        "splits the categories of 'plan' itself.*OneHotEncoder",
    ),
    Case(
        "`LGBMClassifier` over numbers with missing values",
        lambda: LGBMClassifier(**SMALL, verbose=-1), NUMBERS, LEVEL, "onnx",
    ),
    Case(
        "`LGBMRegressor` behind a dense `ColumnTransformer`",
        lambda: make_pipeline(
            columns(numbers="passthrough", sparse_threshold=0), LGBMRegressor(**SMALL, verbose=-1)
        ),
        [*NUMBERS, *TEXTS], AMOUNT, "onnx",
    ),
    Case(
        "`LGBMClassifier` with columns of the type `category`",
        lambda: LGBMClassifier(**SMALL, verbose=-1),
        [*NUMBERS, "plan"], LEFT, "refused", "encode the categories by `OneHotEncoder`",
        "splits the categories of 'plan' itself.*OneHotEncoder",
    ),
    Case(
        "`CatBoostClassifier` over numbers with missing values",
        lambda: CatBoostClassifier(**QUIET), NUMBERS, LEFT, "onnx",
    ),
    Case(
        "`CatBoostClassifier(cat_features=…)`",
        lambda: CatBoostClassifier(**QUIET, cat_features=["note"]),
        ["income", "age", "note"], LEFT, "refused", "encode the categories by `OneHotEncoder`",
        r"encodes the categories of 'note' itself.*OneHotEncoder",
    ),
    Case(
        "`SplineTransformer`",
        lambda: make_pipeline(SimpleImputer(), SplineTransformer(), Ridge()),
        NUMBERS, AMOUNT, "refused", "neither ONNX export nor skops has it",
        r"it contains .*BSpline, which could run any code; ",
    ),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"[^\w]+", "-", case.title))
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # of LightGBM
def test_a_pipeline_is_served_with_its_own_predictions_or_refused_with_the_reason(
    case: Case, tmp_path: Path
) -> None:
    table = TABLE[case.inputs]
    model = case.build()
    texts = isinstance(getattr(model, "steps", [[0, 0]])[0][1], TfidfVectorizer)
    rows = table["note"] if texts else table  # a vectorizer takes texts, not a table
    model.fit(rows[:FITTED], case.target[:FITTED])
    frames = {"reference": table[:FITTED], "evaluation": table[FITTED:]}
    if case.package == "refused":
        with pytest.raises(Refused, match=case.reason):
            package(model, frames)
        return
    packaged = package(model, frames)
    assert packaged.form == case.package, packaged.origin
    assert re.search(case.reason, packaged.origin)
    outputs = served(packaged, table, tmp_path)
    assert_same(model, rows, outputs)


def served(packaged: Any, table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Return the outputs for all rows, in JSON, of a predictor that serves the package."""
    model = folder / "model"
    model.mkdir()
    files = {
        packaged.form.file: packaged.content,
        "signature.json": packaged.signature.model_dump_json(exclude_defaults=True).encode(),
    }
    write(model, files, packaged.form)
    write_model_settings(model, packaged.form)
    signature = Signature.model_validate_json(files["signature.json"])
    records = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.astype(object).to_dict("records")
    ]
    request = signature.request(records).model_dump_json(exclude_unset=True)
    with started(model, folder / "predictor.log", name="pipeline") as predictor:
        response = predictor.infer(json.loads(request))
    assert response.status_code == 200, response.text
    return {each["name"]: np.array(each["data"]) for each in response.json()["outputs"]}


def assert_same(model: Any, rows: Any, outputs: dict[str, Any]) -> None:
    expected = np.asarray(model.predict(rows))
    assert len(expected) == ROWS
    if "value" in outputs:
        assert outputs["value"] == pytest.approx(expected.ravel(), rel=1e-4, abs=1e-4)
        return
    assert outputs["label"].tolist() == expected.tolist()
    if "probability" in outputs:
        probability = model.predict_proba(rows)[:, 1]
        assert outputs["probability"] == pytest.approx(probability, abs=1e-4)
    if "probabilities" in outputs:
        probability = model.predict_proba(rows).ravel()
        assert outputs["probabilities"] == pytest.approx(probability, abs=1e-4)


def test_the_table_of_the_page_has_each_of_these_pipelines() -> None:
    table = "\n".join(["| pipeline | package |", "|---|---|", *(case.line for case in CASES)])
    assert table in PAGE.read_text(), f"{PAGE} needs the table\n{table}"
