"""Adoption of what plain MLflow code logs: one test logs, adopts and predicts with each flavor."""

import importlib
import json
import re
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from mlflow.models import ModelSignature, infer_signature
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from slipway.errors import Refused
from slipway.packaging.frames import frame_rows
from slipway.packaging.inference import run_onnx
from slipway.packaging.skops_file import load_skops
from slipway.registry.tracking import Tracking, Version
from slipway_contract.model import Model
from slipway_contract.registry import EXAMPLE_FILE, SIGNATURE_FILE, ArtifactFormat, Tag
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype, parse_request
from slipway_jobs.registry.adoption import adopt
from slipway_jobs.registry.derivation import derive, derive_isolated
from slipway_jobs.registry.flavor import model_file
from slipway_jobs.registry.mlmodel import DESCRIPTION_LIMIT, EXAMPLE_LIMIT, read_folder
from slipway_jobs.settings import Settings

from tests.documents import ROOT
from tests.jobs.test_adoption import graph

TRUSTED = ["numpy.dtype"]
LIMIT = 2**31


def customers(rows: int = 200) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Return numbers, texts and categories with missing values, and who left."""
    random = np.random.default_rng(7)
    fee = np.round(random.gamma(4, 10, rows), 2)
    table = pd.DataFrame(
        {
            "monthly fee": np.where(random.random(rows) < 0.1, np.nan, fee),
            "age": random.integers(18, 80, rows),
            "city": random.choice(np.array(["Köln", "Bonn", None], object), rows),
            "note": random.choice(["will cancel soon", "happy customer", "no answer"], rows),
            "plan": random.choice(["basic", "gold"], rows),
        }
    )
    return table, fee + 10 * (table["note"] == "will cancel soon").to_numpy() > 45


TABLE, LEFT = customers()
NUMBERS = TABLE[["monthly fee", "age"]]


def pipeline() -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["monthly fee", "age"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
            ("note", TfidfVectorizer(), "note"),
        ]
    )
    labels = np.where(LEFT, "leaves", "stays")
    return make_pipeline(columns, LogisticRegression()).fit(TABLE, labels)


def signature_of(rows: pd.DataFrame, outputs: Any) -> ModelSignature:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's hint on whole numbers
        return infer_signature(rows, outputs)


class Shop:
    """Logs by plain MLflow, adopts, and predicts with the artifact that is served."""

    def __init__(self, tracking: Tracking, url: str, settings: Settings, folder: Path) -> None:
        self._tracking, self._url, self._settings, self._folder = tracking, url, settings, folder

    def log(self, log_model: Callable[..., Any], model: Any, name: str, **more: Any) -> Version:
        """Log a model with the arguments that a user gives, and nothing of Slipway."""
        mlflow.set_tracking_uri(self._url)
        mlflow.set_experiment("by hand")
        with warnings.catch_warnings(), mlflow.start_run():
            warnings.simplefilter("ignore")  # MLflow's and XGBoost's advice
            made = log_model(
                model, name="model", registered_model_name=name, pip_requirements=[], **more
            )
        return self._tracking.version(name, str(made.registered_model_version))

    def adopt(self, version: Version) -> "Adopted":
        result = adopt(version, self._settings, self._tracking)
        pinned = self._tracking.version(version.name, version.version)
        assert pinned.digest == result["digest"]
        return Adopted(self._tracking.download(pinned, self._folder), pinned)

    def refusal(self, version: Version) -> str:
        with pytest.raises(Refused) as refused:
            adopt(version, self._settings, self._tracking)
        assert Tag.DIGEST not in self._tracking.version(version.name, version.version).tags
        return str(refused.value)


class Adopted:
    """An adopted version: its signature, and the outputs for rows of a data frame."""

    def __init__(self, folder: Path, version: Version) -> None:
        self.signature = Signature.model_validate_json((folder / SIGNATURE_FILE).read_bytes())
        self.example = parse_request((folder / EXAMPLE_FILE).read_bytes())
        self.signature.check(self.example.inputs)
        self.form = ArtifactFormat(version.tags[Tag.FORMAT])
        self.provenance = json.loads((folder / "provenance.json").read_bytes())
        self._content = (folder / self.form.file).read_bytes()
        self.missing = {column.name for column in self.signature.inputs if column.missing}

    def predict(self, frame: pd.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
        rows = frame_rows(frame, self.signature.inputs)
        if self.form is ArtifactFormat.SKOPS:
            return dict(load_skops(self._content, self.signature).predict_rows(rows))
        feeds = {name: values.reshape(-1, 1) for name, values in rows.items()}
        return {name: values.ravel() for name, values in run_onnx(self._content, feeds).items()}


@pytest.fixture
def shop(tracking: Tracking, mlflow_url: str, settings: Settings, tmp_path: Path) -> Shop:
    return Shop(tracking, mlflow_url, settings, tmp_path)


@pytest.mark.slow
def test_a_pipeline_of_scikit_learn_answers_nulls_texts_and_categories(shop: Shop) -> None:
    fitted = pipeline()
    version = shop.log(
        mlflow.sklearn.log_model, fitted, "plain-pipeline", serialization_format="skops",
        skops_trusted_types=TRUSTED, input_example=TABLE.head(20),
        signature=signature_of(TABLE, fitted.predict(TABLE)),
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert adopted.form is ArtifactFormat.ONNX
    assert adopted.missing == {"monthly fee", "city"}
    given = adopted.predict(TABLE)
    assert given["label"].tolist() == fitted.predict(TABLE).tolist()
    np.testing.assert_allclose(given["probability"], fitted.predict_proba(TABLE)[:, 1], atol=1e-5)
    assert adopted.provenance["flavor"] == "sklearn"
    assert adopted.provenance["parity"]["rows"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ubj", "json", "xgb"])
def test_trees_of_xgboost_answer_nulls(shop: Shop, form: str) -> None:
    fitted = xgboost.XGBClassifier(n_estimators=5).fit(NUMBERS, LEFT)
    version = shop.log(
        mlflow.xgboost.log_model, fitted, f"plain-{form}", model_format=form,
        input_example=NUMBERS.head(20),
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert adopted.missing == {"monthly fee"}
    np.testing.assert_allclose(
        adopted.predict(NUMBERS)["probability"], fitted.predict_proba(NUMBERS)[:, 1], atol=1e-5
    )


@pytest.mark.slow
def test_a_booster_of_xgboost_fitted_on_an_array_has_numbered_columns(shop: Shop) -> None:
    array = NUMBERS.to_numpy()
    data = xgboost.DMatrix(array, label=NUMBERS["age"])
    fitted = xgboost.train({"objective": "reg:squarederror"}, data, 5)
    version = shop.log(
        mlflow.xgboost.log_model, fitted, "plain-booster", input_example=array[:20], signature=False
    )
    adopted = shop.adopt(version)
    assert [column.name for column in adopted.signature.inputs] == ["x0", "x1"]
    frame = pd.DataFrame(array, columns=["x0", "x1"])
    np.testing.assert_allclose(adopted.predict(frame)["value"], fitted.predict(data), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["estimator", "booster"])
def test_trees_of_lightgbm_answer_nulls(shop: Shop, kind: str) -> None:
    table = NUMBERS.rename(columns={"monthly fee": "fee"})
    labels = LEFT.astype(int) if kind == "booster" else np.where(LEFT, "leaves", "stays")
    fitted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(table, labels)
    version = shop.log(
        mlflow.lightgbm.log_model, fitted.booster_ if kind == "booster" else fitted,
        f"plain-lightgbm-{kind}", input_example=table.head(20),
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert adopted.missing == {"fee"}
    np.testing.assert_allclose(
        adopted.predict(table)["probability"],
        np.asarray(fitted.predict_proba(table))[:, 1],
        atol=1e-5,
    )


@pytest.mark.slow
def test_a_pipeline_that_ends_in_trees_is_read_from_skops(shop: Shop) -> None:
    steps = ColumnTransformer([("numbers", SimpleImputer(), ["monthly fee", "age"])])
    fitted = make_pipeline(steps, xgboost.XGBClassifier(n_estimators=5)).fit(NUMBERS, LEFT)
    version = shop.log(
        mlflow.sklearn.log_model, fitted, "plain-mixed", input_example=NUMBERS.head(20),
        skops_trusted_types=[*TRUSTED, "xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"],
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert adopted.form is ArtifactFormat.ONNX
    np.testing.assert_allclose(
        adopted.predict(NUMBERS)["probability"], fitted.predict_proba(NUMBERS)[:, 1], atol=1e-5
    )


@pytest.mark.slow
def test_trees_of_catboost_answer_nulls_where_the_library_is_installed(shop: Shop) -> None:
    fitted = catboost.CatBoostClassifier(
        iterations=5, verbose=False, allow_writing_files=False
    ).fit(NUMBERS, LEFT.astype(int))  # fmt: skip
    version = shop.log(
        mlflow.catboost.log_model, fitted, "plain-catboost", input_example=NUMBERS.head(20)
    )
    adopted = shop.adopt(version)
    assert adopted.missing == {"monthly fee"}
    np.testing.assert_allclose(
        adopted.predict(NUMBERS)["probability"], fitted.predict_proba(NUMBERS)[:, 1], atol=1e-5
    )


def test_catboost_is_refused_without_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "catboost", raising=False)
    reason = refusal(folder(tmp_path, {"catboost": {"data": "model.cb"}}))
    assert "whose library is not in the image of this Job" in reason
    assert "slipway.log_model(model, 'churn', reference=X), and move the alias" in reason


def test_trees_that_split_categories_are_refused_with_the_pipeline(tmp_path: Path) -> None:
    table = NUMBERS.assign(plan=TABLE["plan"].astype("category"))
    fitted = xgboost.XGBClassifier(n_estimators=2, enable_categorical=True).fit(table, LEFT)
    fitted.save_model(tmp_path / "model.ubj")
    rows = {"columns": list(table.columns), "data": table.fillna(0).head(3).to_numpy().tolist()}
    reason = refusal(folder(tmp_path, FLAVOR, None, rows))
    assert "splits the categories of 'plan' itself" in reason
    assert "make_column_transformer((OneHotEncoder(" in reason


def test_a_ranker_is_refused(tmp_path: Path) -> None:
    ranker = xgboost.XGBRanker(n_estimators=2)
    ranker.fit(NUMBERS, LEFT.astype(int), qid=np.repeat(np.arange(10), 20))
    ranker.save_model(tmp_path / "model.ubj")
    reason = refusal(folder(tmp_path, FLAVOR, COLUMNS))
    assert "model.ubj is no classifier or regressor of XGBoost" in reason


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 5, 5, 200, 9, 0)
    path = folder(tmp_path, {"lightgbm": {"data": "model.lgb"}}, COLUMNS)
    (path / "model.lgb").write_bytes(b"PK\x03\x04" * 50 + end)
    assert "model.lgb is not a skops file that can be read" in refusal(path)


def hostile(tmp_path: Path, **fields: Any) -> Path:
    """Write a folder with trees of XGBoost that have these fields."""
    inner = tmp_path / "logged"
    inner.mkdir()
    fitted = xgboost.XGBClassifier(n_estimators=1, max_depth=2).fit(NUMBERS, LEFT)
    fitted.save_model(inner / "model.json")
    content = json.loads((inner / "model.json").read_text())
    tree = content["learner"]["gradient_booster"]["model"]["trees"][0]
    for name, value in fields.items():
        tree[name] = [value if child != -1 else child for child in tree["left_children"]]
    (inner / "model.json").write_text(json.dumps(content))
    (tmp_path / "artifact").mkdir()
    folder(inner, {"xgboost": {"data": "model.json"}}, COLUMNS)
    return tmp_path


VERSION = Version("churn", "1", "", {})


def test_a_crash_of_a_library_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = hostile(tmp_path, left_children=2**30)
    with pytest.raises(
        Refused, match=r"model\.json is not a valid file of xgboost; save.*ended wi"
    ):
        derive_isolated(path / "logged", path, VERSION, "tests", LIMIT)


@pytest.mark.slow
def test_trees_with_a_cycle_are_refused(tmp_path: Path) -> None:
    path = hostile(tmp_path, left_children=0, right_children=0)
    with pytest.raises(Refused, match=r"took more than 20 seconds; it may use [0-9]+ MiB"):
        derive_isolated(path / "logged", path, VERSION, "tests", LIMIT, seconds=20)


@pytest.mark.slow
def test_the_process_that_reads_has_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hostile(tmp_path)
    monkeypatch.setenv("SLIPWAY_SIGNING_KEY", "/key")
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, pathlib\npathlib.Path({str(tmp_path / 'seen')!r})"
        ".write_text(' '.join(os.environ))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert (
        derive_isolated(path / "logged", path, VERSION, "tests", LIMIT).format
        is ArtifactFormat.ONNX
    )
    seen = (tmp_path / "seen").read_text().split()
    assert "PATH" in seen
    assert "SLIPWAY_SIGNING_KEY" not in seen


def test_a_graph_with_huge_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(graph(["rows", 10**9]).SerializeToString())
    assert "at most 100000000 values are adopted" in refusal(folder(tmp_path, {"onnx": {}}))


@pytest.mark.slow
def test_a_graph_of_columns_answers_nulls_and_texts(shop: Shop) -> None:
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    columns = ColumnTransformer(
        [("fee", SimpleImputer(), ["fee"]), ("plan", OneHotEncoder(), ["plan"])]
    )
    table = pd.DataFrame({"fee": TABLE["monthly fee"].astype(np.float32), "plan": TABLE["plan"]})
    fitted = make_pipeline(columns, LinearRegression()).fit(table, LEFT)
    made = to_onnx(
        fitted,
        initial_types=[
            ("fee", FloatTensorType([None, 1])), ("plan", StringTensorType([None, 1])),
        ],
    )  # fmt: skip
    version = shop.log(
        mlflow.onnx.log_model, made, "plain-columns", input_example=table.head(20),
        signature=signature_of(table, LEFT.astype(float)),
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert [(c.datatype, c.missing) for c in adopted.signature.inputs] == [
        (Datatype.FP32, True), (Datatype.BYTES, False),
    ]  # fmt: skip
    np.testing.assert_allclose(adopted.predict(table)["variable"], fitted.predict(table), atol=1e-5)


def test_a_model_of_numbers_needs_no_example(shop: Shop) -> None:
    numbers = NUMBERS.fillna(0)
    fitted = LinearRegression().fit(numbers, LEFT)
    version = shop.log(
        mlflow.sklearn.log_model, fitted, "plain-numbers",
        signature=signature_of(numbers, fitted.predict(numbers)),
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert not adopted.missing
    np.testing.assert_allclose(
        adopted.predict(numbers)["value"], fitted.predict(numbers), rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_texts_without_a_table_are_one_input_in_skops(shop: Shop) -> None:
    texts = TABLE["note"].tolist()
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, LEFT)
    version = shop.log(
        mlflow.sklearn.log_model, fitted, "plain-texts", input_example=texts[:5],
        skops_trusted_types=TRUSTED,
    )  # fmt: skip
    adopted = shop.adopt(version)
    assert adopted.form is ArtifactFormat.SKOPS
    assert [(c.name, c.datatype) for c in adopted.signature.inputs] == [("text", Datatype.BYTES)]
    assert (
        adopted.predict(pd.DataFrame({"text": texts}))["label"].tolist()
        == fitted.predict(texts).tolist()
    )


def double(model_input: list[float]) -> list[float]:
    """Return what a user's code does."""
    return [2 * value for value in model_input]


@pytest.mark.slow
def test_code_is_refused_with_the_command_that_logs_the_model(shop: Shop) -> None:
    def log(model: Any, **more: Any) -> Any:
        return mlflow.pyfunc.log_model(python_model=model, **more)

    version = shop.log(log, double, "plain-code")
    reason = shop.refusal(version)
    assert "it was logged as python_function, which is code in cloudpickle" in reason
    assert "registered_model_name='plain-code', serialization_format='skops'" in reason


@pytest.mark.slow
def test_the_page_logs_a_version_that_is_adopted(
    shop: Shop, tracking: Tracking, mlflow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TABLE.assign(left=LEFT).to_csv(tmp_path / "customers.csv", index=False)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(mlflow_url)
    mlflow.set_experiment("by hand")
    page = (ROOT / "docs/how-to/mlflow.md").read_text()
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's hint on whole numbers
        for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            exec(block, names)  # noqa: S102
    mlflow.end_run()
    (resource,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    model = Model.model_validate(yaml.safe_load(resource))
    version = tracking.aliased(model.spec.registered_model, model.spec.alias)
    assert version is not None
    adopted = shop.adopt(version)
    rows = TABLE.drop(columns="note")
    assert adopted.missing == {"monthly fee", "city"}
    assert adopted.predict(rows)["label"].tolist() == names["pipeline"].predict(rows).tolist()


def folder(
    tmp_path: Path, flavors: dict[str, Any], inputs: Any = None, example: Any = None,
    kind: str = "dataframe", **files: bytes,
) -> Path:  # fmt: skip
    """Write a folder as MLflow does; ``files`` are named with ``_`` for the dot."""
    description: dict[str, Any] = {"flavors": flavors}
    if inputs is not None:
        description["signature"] = {"inputs": json.dumps(inputs)}
    if example is not None:
        (tmp_path / "input_example.json").write_text(json.dumps(example))
        description["saved_input_example_info"] = {
            "artifact_path": "input_example.json", "type": kind,
        }  # fmt: skip
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(description))
    for name, content in files.items():
        (tmp_path / name.replace("_", ".")).write_bytes(content)
    return tmp_path


def refusal(path: Path, limit: int = LIMIT) -> str:
    def derived() -> None:
        logged = read_folder(path, limit)
        derive(logged, model_file(logged, "churn"), path / "artifact", VERSION, "tests")

    (path / "artifact").mkdir(exist_ok=True)
    with pytest.raises(Refused) as refused:
        derived()
    return str(refused.value)


@pytest.mark.parametrize(
    ("flavor", "command"),
    [
        ("pytorch", "dynamic_axes={'x': {0: 'rows'}}, dynamo=False), then mlflow.onnx.log_model("),
        ("keras", "tf2onnx.convert.from_keras(model, output_path='model.onnx')"),
        ("tensorflow", "tf2onnx.convert.from_keras(model, output_path='model.onnx')"),
        ("spark", "export the model to ONNX, run mlflow.onnx.log_model(onnx.load('model.onnx')"),
    ],
)
def test_another_flavor_is_refused_with_the_next_command(
    tmp_path: Path, flavor: str, command: str
) -> None:
    reason = refusal(folder(tmp_path, {flavor: {"data": "data"}, "python_function": {}}))
    assert f"it was logged as {flavor}" in reason
    assert command in reason
    assert "registered_model_name='churn'" in reason
    assert "move the alias" in reason


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("trees") / "model.ubj"
    xgboost.XGBClassifier(n_estimators=2).fit(NUMBERS, LEFT).save_model(path)
    return path.read_bytes()


FLAVOR = {"xgboost": {"data": "model.ubj"}}
COLUMNS = [{"type": "double", "name": "monthly fee"}, {"type": "long", "name": "age"}]


def test_a_model_without_signature_and_example_is_refused(tmp_path: Path, trees: bytes) -> None:
    reason = refusal(folder(tmp_path, FLAVOR, model_ubj=trees))
    assert "neither a signature nor an input example" in reason
    assert "log it again with input_example=X.head()" in reason


def test_texts_without_an_example_are_refused(tmp_path: Path, trees: bytes) -> None:
    inputs = [*COLUMNS, {"type": "string", "name": "city"}]
    reason = refusal(folder(tmp_path, FLAVOR, inputs, model_ubj=trees))
    assert "no input example, which the text column 'city' needs" in reason


@pytest.mark.parametrize(
    ("inputs", "example", "kind", "problem"),
    [
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}}],
         None, "", r"has a tensor with [-1, 28, 28]; a table has rows and columns"),
        ([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 10**9]}}],
         None, "", "has a tensor with"),
        (None, [[[1.0]]], "ndarray", "has 3 dimensions"),
        ([{"type": "datetime", "name": "day"}], None, "", "'day' of its signature has the type"),
        (COLUMNS, {"columns": ["age"], "data": [[1]]}, "dataframe", "no column 'monthly fee'"),
        (COLUMNS, {"columns": ["monthly fee", "age"], "data": [["x", 1]]}, "dataframe",
         "other values than numbers in 'monthly fee'"),
        (COLUMNS, {"columns": ["monthly fee", "age"], "data": []}, "dataframe", "no rows"),
        (COLUMNS, {"nothing": 1}, "dataframe", "cannot be read: KeyError"),
        (COLUMNS, {"indices": [1]}, "sparse_matrix_csr", "several values per row"),
        (COLUMNS, [1, [2]], "ndarray", "cannot be read: ValueError"),
        (COLUMNS, {"a": [1, [2]]}, "json_object", "cannot be read: ValueError"),
        ([*COLUMNS, COLUMNS[0]], None, "", "two columns with the same name"),
        ([{"type": "double", "name": ""}], None, "", "a column of its signature or of its input"),
        (None, {"": [1.0]}, "json_object", "several values per row"),
        (None, {"columns": [""], "data": [[1.0]]}, "dataframe", "the column name '' is not a"),
        (None, [[1] * 10_001], "ndarray", "it has 10001 columns; at most 10000 are adopted"),
        (None, {"data": [[1] * 10_001]}, "dataframe", "it has 10001 columns"),
        (None, {"a": [1, 2]}, "json_object", "several values per row in 'a'"),
    ],
)  # fmt: skip
def test_a_signature_or_an_example_that_is_no_table_is_refused(
    tmp_path: Path, trees: bytes, inputs: Any, example: Any, kind: str, problem: str
) -> None:
    assert problem in refusal(folder(tmp_path, FLAVOR, inputs, example, kind, model_ubj=trees))


@pytest.mark.parametrize(
    "name", ["../secret.ubj", "/etc/passwd", "", "missing.ubj", ".", "x" * 300, "a\0b"]
)
def test_files_outside_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.ubj").write_bytes(b"secret")
    inner = tmp_path / "model"
    inner.mkdir()
    assert "which does not exist" in refusal(folder(inner, {"xgboost": {"data": name}}, COLUMNS))


def test_an_example_outside_the_folder_is_not_read(tmp_path: Path, trees: bytes) -> None:
    (tmp_path / "secret.json").write_text("[]")
    inner = folder_with(tmp_path, trees)
    text = (inner / "MLmodel").read_text().replace("input_example.json", "../secret.json")
    (inner / "MLmodel").write_text(text)
    assert "the file '../secret.json', which does not exist" in refusal(inner)


def folder_with(tmp_path: Path, trees: bytes) -> Path:
    inner = tmp_path / "model"
    inner.mkdir()
    example = {"columns": ["monthly fee", "age"], "data": [[1.0, 2]]}
    return folder(inner, FLAVOR, COLUMNS, example, model_ubj=trees)


def test_large_files_are_not_read(tmp_path: Path, trees: bytes) -> None:
    inner = folder_with(tmp_path, trees)
    assert "at most 10 are read" in refusal(inner, limit=10)
    (inner / "input_example.json").write_bytes(b" " * (EXAMPLE_LIMIT + 1))
    assert f"at most {EXAMPLE_LIMIT} are read" in refusal(inner)
    (inner / "MLmodel").write_bytes(b" " * (DESCRIPTION_LIMIT + 1))
    assert f"more than {DESCRIPTION_LIMIT} bytes" in refusal(inner)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[1, 2]", b"flavors: 3", b"\xff\xfe", b"{" * 5_000, b"flavors: {onnx: null}",
        b"flavors: {}\nsignature: {inputs: 'not json'}",
        b"a: &a [x]\nflavors: {onnx: {data: *a}}",
        b"!!python/object/apply:os.system ['touch /tmp/never']",
    ],
)  # fmt: skip
def test_another_description_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "MLmodel").write_bytes(content)
    assert "is not an MLflow model" in refusal(tmp_path)


def test_a_folder_without_a_description_is_refused(tmp_path: Path) -> None:
    assert "it has no MLmodel" in refusal(tmp_path)


def test_a_pickle_with_the_name_of_trees_is_refused(tmp_path: Path) -> None:
    reason = refusal(
        folder(tmp_path, FLAVOR, COLUMNS, model_ubj=b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    )
    assert "logged as xgboost in pickle, which could run any code" in reason


def test_types_that_mlmodel_trusts_are_not_trusted(tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(customers), tmp_path / "model.skops")
    flavor = {
        "sklearn": {
            "pickled_model": "model.skops", "serialization_format": "skops",
            "skops_trusted_types": ["tests.jobs.test_adopted_flavors.customers"],
        }
    }  # fmt: skip
    reason = refusal(folder(tmp_path, flavor, COLUMNS))
    assert "types that are not on the fixed list of trusted ones" in reason


def test_a_large_artifact_is_not_downloaded(shop: Shop, tracking: Tracking, tmp_path: Path) -> None:
    version = shop.log(mlflow.onnx.log_model, graph(["rows", 3]), "plain-large")
    with pytest.raises(Refused, match="bytes or more; at most 1000 files and 10 bytes are read"):
        tracking.download(version, tmp_path, 10)
