"""What plain MLflow code logs is served after two commands: the alias, and ``slipway apply``."""

import os
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from slipway_contract.model import ConditionType

from tests.local.conftest import START_SECONDS, LocalStack
from tests.support.processes import installed
from tests.support.waiting import wait_for

pytestmark = pytest.mark.stack

SLIPWAY = str(installed("slipway", ".venv"))
FEES = [20.0, np.nan, 80.0, 95.0]
TABLE = pd.DataFrame(
    {"fee": FEES * 10, "plan": ["basic", "basic", "gold", None] * 10, "age": range(40)}
)
LEFT = ["stays", "stays", "leaves", "leaves"] * 10


def pipeline() -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), ["fee", "age"]),
            ("plan", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(TABLE, LEFT)


def log(stack: LocalStack, flavor: Any, model: Any, name: str, **more: Any) -> None:
    """Log a version as MLflow's documentation does, and set the alias."""
    mlflow.set_tracking_uri(stack.mlflow_url)
    mlflow.set_experiment("plain")
    with warnings.catch_warnings(), mlflow.start_run():
        warnings.simplefilter("ignore")  # MLflow's hint on whole numbers
        made = flavor.log_model(model, name="model", registered_model_name=name, **more)
    mlflow.MlflowClient().set_registered_model_alias(
        name, "champion", made.registered_model_version
    )


def apply(
    stack: LocalStack, name: str, folder: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    path = folder / "model.yaml"
    path.write_text(
        "apiVersion: serving.slipway.dev/v1alpha1\nkind: Model\n"
        f"metadata: {{name: {name}}}\nspec: {{registeredModel: {name}}}\n"
    )
    access = {"SLIPWAY_URL": stack.url, "SLIPWAY_TOKEN": stack.token("scientist")}
    return subprocess.run(
        [SLIPWAY, "apply", "-f", str(path), "--wait", str(int(seconds))],
        env=os.environ | access, capture_output=True, text=True, check=False,
    )  # fmt: skip


def predict(user: httpx.Client, name: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the predictions for rows, with null for each missing value."""
    instances = rows.astype(object).where(rows.notna(), None).to_dict(orient="records")
    answer = wait_for(
        "an answer",
        lambda: (
            (a := user.post(f"/v1/models/{name}/predictions", json={"instances": instances}))
            .is_success and a
        ),
    )  # fmt: skip
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def test_a_pipeline_answers_rows_with_nulls(
    stack: LocalStack, user: httpx.Client, tmp_path: Path
) -> None:
    fitted = pipeline()
    log(
        stack, mlflow.sklearn, fitted, "plain-pipeline",
        input_example=TABLE.head(8), skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    started = time.monotonic()
    applied = apply(stack, "plain-pipeline", tmp_path, START_SECONDS)
    assert applied.returncode == 0, applied.stderr
    print(f"ready after {time.monotonic() - started:.0f} s")  # noqa: T201  # for a person, with -s
    rows = TABLE.head(4)
    given = predict(user, "plain-pipeline", rows)
    assert [each["label"] for each in given] == fitted.predict(rows).tolist()
    np.testing.assert_allclose(
        [each["probability"] for each in given], fitted.predict_proba(rows)[:, 1], atol=1e-5
    )


def test_trees_answer_rows_with_nulls(
    stack: LocalStack, user: httpx.Client, tmp_path: Path
) -> None:
    numbers = TABLE[["fee", "age"]]
    fitted = xgboost.XGBRegressor(n_estimators=5).fit(numbers, np.arange(40.0))
    log(stack, mlflow.xgboost, fitted, "plain-trees", input_example=numbers.head(8))
    applied = apply(stack, "plain-trees", tmp_path, START_SECONDS)
    assert applied.returncode == 0, applied.stderr
    given = predict(user, "plain-trees", numbers.head(4))
    np.testing.assert_allclose(
        [each["value"] for each in given], fitted.predict(numbers.head(4)), rtol=1e-5
    )


def test_cloudpickle_is_refused_and_the_condition_has_the_next_command(
    stack: LocalStack, tmp_path: Path
) -> None:
    log(
        stack, mlflow.sklearn, pipeline(), "plain-pickle",
        serialization_format="cloudpickle", input_example=TABLE.head(8),
    )  # fmt: skip
    assert apply(stack, "plain-pickle", tmp_path, 0).returncode == 0
    wait_for(
        "the refusal",
        lambda: stack.degraded("plain-pickle").startswith("AdoptionFailed"),
        START_SECONDS,
    )
    condition = stack.model("plain-pickle").status.condition(ConditionType.DEGRADED)
    assert condition
    assert "logged as sklearn in cloudpickle, which could run any code" in condition.message
    assert (
        "mlflow.sklearn.log_model(model, name='model', registered_model_name='plain-pickle', "
        "serialization_format='skops', input_example=X.head())"
    ) in condition.message
