"""A fitted model is logged in one call: package, card, run and registered version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import slipway
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from slipway.errors import Refused, WrongParameter
from slipway.packaging.evaluation import EvaluationTable
from slipway.packaging.reference import Reference
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import Tag
from slipway_contract.signature import Signature

from tests.sdk.churn import customers, fitted
from tests.support.predictor_process import started
from tests.support.processes import installed

INITIALIZER = installed("slipway-storage-initializer", ".venv-serving")
UNSIGNED = {"SLIPWAY_STORAGE_REQUIRE_SIGNED": "false"}

NUMBERS = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)[::-1].copy()})
SUM = NUMBERS["a"] * 2 + 1


@pytest.fixture(scope="module")
def churn(tracking: Tracking) -> Version:
    assert tracking
    model, train, held_out, left = fitted()
    return slipway.log_model(
        model, "churn", example=held_out.head(3), evaluation=(held_out, left), reference=train,
        use="Predicts which customers leave.",
    )  # fmt: skip


@pytest.mark.slow
def test_a_pipeline_over_texts_categories_and_gaps_is_served_with_its_predictions(
    churn: Version, mlflow_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    subprocess.run(
        [INITIALIZER, f"mlflow://churn/{churn.version}?{churn.digest.replace(':', '=')}", folder],
        env=os.environ | UNSIGNED | {"MLFLOW_TRACKING_URI": mlflow_url}, check=True,
    )  # fmt: skip
    model, *_ = fitted()
    unseen, _ = customers(20, seed=7)
    rows = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in unseen.astype(object).to_dict("records")
    ]
    assert any(row["city"] is None for row in rows)
    assert any(row["monthly fee"] is None for row in rows)
    signature = Signature.model_validate_json((folder / "signature.json").read_bytes())
    request = signature.request(rows).model_dump(mode="json", exclude_unset=True)
    with started(folder, tmp_path / "predictor.log", name="churn") as predictor:
        response = predictor.infer(request)
        own_example = predictor.infer(json.loads((folder / "input_example.json").read_text()))
        request["inputs"][6]["data"][0] = "silver"
        refused = predictor.infer(request)
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert outputs["label"] == model.predict(unseen).tolist()
    assert outputs["probability"] == pytest.approx(model.predict_proba(unseen)[:, 1], abs=1e-5)
    assert own_example.status_code == 200, own_example.text
    assert "plan: 'silver' is not one of basic, gold" in refused.text


def test_the_version_has_scores_a_card_and_the_distribution_of_the_training_rows(
    churn: Version, tracking: Tracking, tmp_path: Path
) -> None:
    folder = tracking.download(churn, tmp_path)
    model, train, held_out, left = fitted()
    expected = roc_auc_score(left == "stays", model.predict_proba(held_out)[:, 1])
    metrics = tracking.metrics(churn)
    assert metrics["evaluation_auc"] == pytest.approx(expected, abs=1e-6)
    card = (folder / "model_card.md").read_text()
    assert "Predicts which customers leave." in card
    assert "| plan |  |  | basic, gold | no |" in card
    assert f"| auc | larger | {expected:.4g} |" in card
    reference = Reference.model_validate_json((folder / "reference.json").read_bytes())
    assert reference.rows == len(train)


def test_the_evaluation_table_is_stored_once_by_its_digest(
    churn: Version, tracking: Tracking, tmp_path: Path
) -> None:
    model, train, held_out, left = fitted()
    again = slipway.log_model(model, "churn", evaluation=(held_out, left), reference=train)
    digest = churn.tag(Tag.EVALUATION_DIGEST)
    assert again.tag(Tag.EVALUATION_DIGEST) == digest
    tags = {"slipway.model": "churn", Tag.EVALUATION_DIGEST.value: digest}
    run = tracking.finished_run("evaluations", tags)
    assert run is not None
    path = tracking.download_file(run, "evaluation.parquet", tmp_path)
    table = pd.read_parquet(path)
    assert table["row.label"].tolist() == left.tolist()
    assert table["city"].isna().sum() == held_out["city"].isna().sum()
    found = Signature.model_validate_json(
        (tracking.download(churn, tmp_path / "churn") / "signature.json").read_bytes()
    )
    assert EvaluationTable.of(found, table.drop(columns="row.label"), left).digest == digest


def test_the_signature_is_printed_for_the_user(
    tracking: Tracking, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tracking
    slipway.log_model(LinearRegression().fit(NUMBERS, SUM), "printed", reference=NUMBERS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [  # MLflow prints a link to the run, too
        "printed: onnx",
        "input   a      number (FP32); training: 0 to 19",
        "input   b      number (FP32); training: 0 to 19",
        "output  value  number (FP32)",
    ]


def test_the_active_run_is_used_and_continues(tracking: Tracking) -> None:
    assert tracking
    with mlflow.start_run() as run:
        version = slipway.log_model(
            LinearRegression().fit(NUMBERS, SUM), "inside", evaluation=(NUMBERS, SUM)
        )
        mlflow.log_metric("own", 1)
    assert version.run_id == run.info.run_id
    assert tracking.metrics(version).keys() == {"evaluation_mae", "evaluation_rmse", "own"}


def test_mlflow_reads_the_logged_graph(churn: Version, tracking: Tracking, tmp_path: Path) -> None:
    model = mlflow.onnx.load_model(str(tracking.download(churn, tmp_path)))
    assert [value.name for value in model.graph.input][:2] == ["monthly fee", "age"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "reference: is not given, nor evaluation or example; give rows"),
        ({"evaluation": NUMBERS}, r"evaluation: is not a pair; give \(rows, true outputs\)"),
        ({"evaluation": (NUMBERS, SUM[:3])}, r"evaluation: has 20 rows and true outputs of the"),
        ({"evaluation": (NUMBERS, [None] * 20)}, "evaluation: a true output is missing"),
        ({"reference": [1, 2]}, "reference: is a list; give a pandas.DataFrame"),
    ],
)
def test_invalid_rows_are_rejected_with_the_parameter_and_the_remedy(
    tracking: Tracking, arguments: dict[str, Any], problem: str
) -> None:
    assert tracking
    with pytest.raises(WrongParameter, match=problem):
        slipway.log_model(LinearRegression().fit(NUMBERS, SUM), "invalid", **arguments)


def test_a_label_that_is_no_class_of_the_model_is_rejected(tracking: Tracking) -> None:
    assert tracking
    model, _, held_out, left = fitted()
    with pytest.raises(WrongParameter, match="'gone' is not one of the model's classes leaves"):
        slipway.log_model(model, "invalid", evaluation=(held_out, left.replace("stays", "gone")))


def test_a_name_that_cannot_be_served_is_rejected() -> None:
    with pytest.raises(WrongParameter, match=r"name: 'a\.b' is not a name that can be served"):
        slipway.log_model(LinearRegression().fit(NUMBERS, SUM), "a.b", reference=NUMBERS)


def test_the_package_is_imported_without_the_libraries_of_its_extra() -> None:
    code = "import slipway, sys; print({'mlflow', 'pandas', 'onnx'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_folder_instead_of_a_server_is_rejected(tracking: Tracking, tmp_path: Path) -> None:
    assert tracking
    server = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        with pytest.raises(WrongParameter, match="MLFLOW_TRACKING_URI: MLflow is set to sqlite"):
            slipway.log_model(LinearRegression().fit(NUMBERS, SUM), "local", reference=NUMBERS)
    finally:
        mlflow.set_tracking_uri(server)


def test_a_user_id_without_a_name_is_logged_as_unknown(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless(uid: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for variable in ("SLIPWAY_ACTOR", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nameless)
    for user in ("unknown", "user:ada"):
        version = slipway.log_model(
            LinearRegression().fit(NUMBERS, SUM), "nameless", evaluation=(NUMBERS, SUM)
        )
        folder = tracking.download(version, tmp_path / user)
        assert json.loads((folder / "provenance.json").read_text())["loggedBy"] == user
        monkeypatch.setenv("SLIPWAY_ACTOR", "user:ada")


def test_nothing_is_registered_for_a_model_that_is_refused(tracking: Tracking) -> None:
    model = make_pipeline(FunctionTransformer(twice), LinearRegression()).fit(NUMBERS, SUM)
    with pytest.raises(Refused, match="twice, which could run any code"):
        slipway.log_model(model, "refused", reference=NUMBERS)
    assert tracking.aliased("refused", "champion") is None


def twice(table: Any) -> Any:
    return table * 2
