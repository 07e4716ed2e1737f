"""Model files of ONNX, skops, XGBoost and LightGBM are packaged as the fitted model is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
import slipway
from lightgbm import LGBMClassifier, LGBMRegressor
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression
from slipway.errors import Refused, WrongParameter
from slipway.packaging import skops_file
from slipway.packaging.evaluation import EvaluationTable
from slipway.packaging.frames import frame_rows
from slipway.packaging.model_file import read_model
from slipway.packaging.package import package
from slipway.registry.tracking import Tracking
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from xgboost import XGBClassifier, XGBRegressor

from tests.documents import ROOT, blocks
from tests.sdk.churn import fitted

NUMBERS = pd.DataFrame({"a": np.arange(30.0), "b": np.arange(30.0)[::-1].copy()})
NUMBERS.loc[3, "a"] = np.nan
QUIET: dict[str, Any] = {"n_estimators": 5, "n_jobs": 1, "min_child_samples": 2, "verbose": -1}
AMOUNT = np.arange(30.0) * 2 + 1


def graph(path: Path, kind: int = TensorProto.FLOAT, shape: int = 1) -> Path:
    """Write a graph with the inputs a and b and the output sum, all [rows, shape]."""
    values = [
        helper.make_tensor_value_info(name, kind, ["rows", shape]) for name in ("a", "b", "sum")
    ]
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    made = helper.make_model(
        helper.make_graph([node], "sum", values[:2], values[2:]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    onnx.save_model(made, str(path))
    return path


def test_a_skops_file_is_packaged_as_its_estimator(tmp_path: Path) -> None:
    model, train, *_ = fitted()
    skops.io.dump(model, tmp_path / "churn.skops")
    packaged = package(read_model(tmp_path / "churn.skops"), {"reference": train})
    assert packaged.form is ArtifactFormat.ONNX
    direct = package(model, {"reference": train})
    assert packaged.signature == direct.signature
    assert packaged.content == direct.content


@pytest.mark.parametrize("suffix", ["ubj", "json"])
@pytest.mark.parametrize(
    ("model", "target"),
    [
        (XGBClassifier(n_estimators=5, n_jobs=1), np.arange(30) // 15),
        (XGBClassifier(n_estimators=5, n_jobs=1), np.arange(30) // 10),
        (XGBRegressor(n_estimators=5, n_jobs=1), AMOUNT),
    ],
    ids=["binary", "classes", "quantity"],
)
def test_a_file_of_xgboost_is_packaged_with_its_predictions(
    tmp_path: Path, suffix: str, model: Any, target: Any
) -> None:
    path = tmp_path / f"model.{suffix}"
    model.fit(NUMBERS, target).save_model(path)
    assert_packaged(path, model)


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (LGBMClassifier(**QUIET), np.arange(30) // 15),
        (LGBMClassifier(**QUIET), np.arange(30) // 10),
        (LGBMRegressor(**QUIET), AMOUNT),
    ],
    ids=["binary", "classes", "quantity"],
)
def test_a_file_of_lightgbm_is_packaged_with_its_predictions(
    tmp_path: Path, model: Any, target: Any
) -> None:
    path = tmp_path / "model.txt"
    model.fit(NUMBERS, target).booster_.save_model(path)
    assert_packaged(path, model)


def assert_packaged(path: Path, model: Any) -> None:
    packaged = package(read_model(path), {"reference": NUMBERS})
    assert packaged.form is ArtifactFormat.ONNX
    rows = {name: NUMBERS[name].to_numpy(np.float32) for name in ("a", "b")}
    outputs = packaged.predict_rows(rows)
    first = packaged.signature.outputs[0].name
    assert outputs[first].ravel() == pytest.approx(model.predict(NUMBERS), abs=1e-4)


def test_an_onnx_file_is_served_unchanged_with_the_inputs_that_the_rows_show(
    tmp_path: Path, tracking: Tracking
) -> None:
    path = graph(tmp_path / "sum.onnx")
    total = NUMBERS.fillna(0).sum(axis=1)
    whole = NUMBERS.fillna(0)
    version = slipway.log_model(str(path), "sums", evaluation=(whole, total), reference=NUMBERS)
    assert tracking.metrics(version)["evaluation_mae"] == pytest.approx(0, abs=1e-5)
    packaged = package(path, {"reference": NUMBERS})
    assert [column.missing for column in packaged.signature.inputs] == [True, False]
    assert packaged.signature.inputs[1].description == "training: 0 to 29"
    assert packaged.origin == "An ONNX file, served unchanged."


@pytest.mark.parametrize(
    ("kind", "shape", "rows", "problem"),
    [
        (TensorProto.FLOAT, 4, NUMBERS, r"input 'a' with \[4\] values per row.*give a signature"),
        (TensorProto.INT64, 1, NUMBERS, "a: has missing values, which INT64 of the graph has not"),
        (TensorProto.FLOAT, 1, NUMBERS.astype(str), "a: the rows have BYTES; the graph takes FP32"),
        (TensorProto.FLOAT, 1, NUMBERS[["a"]], "reference: has no column 'b'"),
    ],
)
def test_rows_that_do_not_fit_a_graph_are_rejected(
    tmp_path: Path, kind: int, shape: int, rows: pd.DataFrame, problem: str
) -> None:
    with pytest.raises(WrongParameter, match=problem):
        package(graph(tmp_path / "sum.onnx", kind, shape), {"reference": rows})


def test_a_graph_with_vectors_is_packaged_with_a_signature(tmp_path: Path) -> None:
    def column(name: str) -> Column:
        return Column(name=name, datatype=Datatype.FP32, shape=(4,))

    signature = Signature(inputs=(column("a"), column("b")), outputs=(column("sum"),))
    cells: dict[str, list[Any]] = {
        "a": [np.ones(4), np.zeros(4)],
        "b": [[1, 2, 3, 4], np.ones((2, 2))],
    }
    rows = pd.DataFrame(cells)
    path = graph(tmp_path / "sum.onnx", TensorProto.FLOAT, 4)
    packaged = package(path, {"example": rows}, signature)
    given = frame_rows(rows, signature.inputs)
    assert packaged.predict_rows(given)["sum"].tolist() == [[2, 3, 4, 5], [1, 1, 1, 1]]
    table = EvaluationTable.of(signature, rows, [[2, 3, 4, 5], [1, 1, 1, 1]])
    read = EvaluationTable.read(table.content(), signature)
    assert all((read.rows[name] == values).all() for name, values in given.items())
    with pytest.raises(WrongParameter, match=r"a: does not fit FP32: an array of \[4\] values"):
        package(path, {"example": pd.DataFrame({**cells, "a": [1, 2]})}, signature)


def test_files_that_could_run_code_or_cannot_be_read_are_refused(tmp_path: Path) -> None:
    joblib.dump(LinearRegression(), tmp_path / "model.joblib")
    joblib.dump(LinearRegression(), tmp_path / "hidden.onnx")
    (tmp_path / "model.json").write_text("{}")
    (tmp_path / "model.txt").write_text("tree\nversion=v4\n")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for name, problem in {
        "model.joblib": "is a pickle, which could run any code",
        "hidden.onnx": "is a pickle, which could run any code",
        "model.json": "is not a model of XGBoost that can be read",
        "model.txt": "is not a model of LightGBM that can be read",
        "broken.onnx": "is not an ONNX model",
    }.items():
        with pytest.raises(Refused, match=problem):
            package(read_model(tmp_path / name), {"reference": NUMBERS})
    with pytest.raises(WrongParameter, match=r"none\.onnx is not a file"):
        read_model(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("member", "limit"), [("schema.json", "SCHEMA_LIMIT"), ("other", "UNPACKED_LIMIT")]
)
def test_an_archive_is_not_unpacked_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, limit: str
) -> None:
    monkeypatch.setattr(skops_file, limit, 10**5)
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, b" " * 2**20)
    with pytest.raises(
        Refused, match=r"model\.skops has 1048576 bytes in .*at most 100000 are read"
    ):
        read_model(tmp_path / "model.skops")


@pytest.mark.slow
def test_the_command_of_the_page_registers_a_version(
    tmp_path: Path, tracking: Tracking, mlflow_url: str
) -> None:
    (page,) = [
        each.commands
        for each in blocks(ROOT / "docs/how-to/logging.md")
        if "slipway package" in each.commands
    ]
    left = pd.Series(np.arange(30) // 15, name="left")
    XGBClassifier(n_estimators=5, n_jobs=1).fit(NUMBERS, left).save_model(tmp_path / "churn.ubj")
    for name in ("train.csv", "test.csv"):
        NUMBERS.assign(left=left).to_csv(tmp_path / name, index=False)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", command], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"MLFLOW_TRACKING_URI": mlflow_url, "PATH": programs},
        )  # fmt: skip

    done = run(page)
    assert done.returncode == 0, done.stdout + done.stderr
    version = tracking.version("churn-trees", "1")
    assert done.stdout.splitlines()[-1] == f"churn-trees/1  {version.digest}"
    assert tracking.metrics(version)["evaluation_auc"] > 0.9
    refused = run(page.replace("--target left", "--target right"))
    assert refused.returncode == 2
    assert "slipway: --target: test.csv has no column 'right'" in refused.stderr
