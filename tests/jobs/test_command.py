"""The command line: the last line of stdout, and the exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_task
from slipway_jobs.__main__ import main
from slipway_jobs.command import window
from slipway_jobs.settings import Settings

from tests.jobs.tables import PATIENT
from tests.jobs.test_imports import plain, saved


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    monkeypatch.setenv("SLIPWAY_FETCH", "false")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(list(arguments))
    (line,) = capsys.readouterr().out.splitlines()
    result: dict[str, Any] = json.loads(line)
    return status, result


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["train", "heart", "--set", "C=-1"],
            "C: Input should be greater than 0, not '-1' (inverse strength",
        ),
        (["train", "heart", "--set", "C=nan"], "C: Input should be a finite number, not 'nan'"),
        (
            ["train", "heart", "--set", "folds=1"],
            "folds: Input should be greater than or equal to 2",
        ),
        (
            ["train", "heart", "--set", "estimator=magic"],
            "estimator: Input should be 'logistic', 'svc', 'forest' or 'boosting',",
        ),
        (
            ["train", "heart", "--set", "depth=3"],
            "depth: is not a parameter of heart; it takes dataset, folds, seed,",
        ),
        (
            ["train", "heart", "--set", "dataset=digits"],
            "dataset: 'digits' is not one of heart-cleveland,",
        ),
        (["train", "heart", "--set", "C"], "--set 'C': has no KEY=VALUE form"),
        (["train", "heart", "--set", "C=1", "--set", "C=2"], "--set C: is given twice"),
        (["train", "lungs"], "model: 'lungs' is unknown; the installed tasks are digits, ecg"),
        (["tune", "heart", "--set", "depth=3"], "depth: is not a parameter of heart"),
        (["tune", "heart", "--trials", "0"], "--trials: '0' is not a whole number of at least 1"),
        (["tune", "heart", "--sweep", "one"], "SLIPWAY_DATABASE_URL: is not set"),
        (["simulate", "heart", "--rate", "0"], "--rate: '0' is not a number of at least 0.001"),
        (["simulate", "heart", "--duration", "long"], "--duration: 'long' is not a length of time"),
        (["simulate", "heart"], "SLIPWAY_URL: Field required"),
        (["evaluate", "heart", "latest"], "version: 'latest' is not a version number"),
        (["promote", "heart", "0"], "version: '0' is not a version number"),
        (["promote", "heart", "best"], "--by: best needs a metric; add --by=METRIC"),
        (["promote", "heart", "best", "--by", "rmse"], "metric: 'rmse' is unknown; heart has auc"),
        (["promote", "own", "best", "--by", "f3"], "metric: 'f3' is unknown; own has auc"),
        (["promote", "heart", "3", "--by", "auc"], "--by: chooses best, and version 3 is given"),
        (
            ["promote", "heart", "best", "--by", "auc", "--rollback"],
            "version: a rollback to best is not possible; name a version",
        ),
        (
            ["promote", "heart", "1", "--min-gain", "nan"],
            "--min-gain: 'nan' is not a number of at least -1e+09",
        ),
        (["promote", "heart", "1", "--metric", "rmse"], "metric: 'rmse' is unknown; heart has auc"),
        (
            ["monitor", "heart", "--window", "yesterday"],
            "--window: 'yesterday' is not a length of time",
        ),
        (
            ["monitor", "heart", "--min-rows", "0"],
            "--min-rows: '0' is not a whole number of at least 1",
        ),
        (["monitor", "heart"], "SLIPWAY_DATABASE_URL: is not set"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name_with_status_2(
    arguments: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("SLIPWAY_URL", "SLIPWAY_DATABASE_URL"):  # a developer may have sourced them
        monkeypatch.delenv(name, raising=False)
    status, result = run(capsys, *arguments)
    assert (status, result["state"], result["error"]) == (2, "failed", "WrongParameter")
    assert result["reason"].startswith(reason)


def test_a_missing_tracking_server_is_reported_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("", "sqlite:///mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", value)
        status, result = run(capsys, "train", "heart")
        assert (status, result["reason"].split(":")[0]) == (2, "MLFLOW_TRACKING_URI")


def test_a_missing_version_ends_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = run(capsys, "evaluate", "heart", "999")
    assert (status, result["error"]) == (1, "NoSuchVersion")
    assert result["reason"] == "heart/999: the registry has no such version"


@pytest.mark.slow
def test_a_refused_promotion_ends_with_status_3_and_an_evaluation_with_0(
    heart: dict[str, Any],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if settings.data:
        monkeypatch.setenv("SLIPWAY_DATA", str(settings.data))
    assert run(capsys, "evaluate", "heart", heart["version"])[0] == 0
    status, result = run(
        capsys,
        "promote",
        "heart",
        heart["version"],
        "--alias",
        "empty",
        "--min-gain",
        "0.9",
        "--dry-run",
    )
    assert (status, result["state"], result["alias"], result["dryRun"]) == (
        3,
        "refused",
        "empty",
        True,
    )


@pytest.mark.slow
def test_the_monitor_ends_with_status_3_for_drift_and_4_for_too_few_rows(
    heart: dict[str, Any], tracking: Tracking, postgres: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tracking.point("heart", "watched", tracking.version("heart", heart["version"]))
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", postgres)
    with psycopg.connect(postgres) as connection:
        connection.execute("TRUNCATE prediction_events")
        log_requests(connection, [PATIENT] * 60)
    watch = ("monitor", "heart", "--alias", "watched", "--window", "1h")
    for options, expected in (
        ("--min-rows=61", (4, "too few rows")),
        ("--min-rows=60", (3, "drift")),
    ):
        status, result = run(capsys, *watch, options)
        assert (status, result["state"]) == expected


def log_requests(connection: "psycopg.Connection[Any]", rows: Sequence[Sequence[float]]) -> None:
    signature = declared_task("heart").signature
    names = [column.name for column in signature.inputs]
    for index, row in enumerate(rows):
        body = signature.request([dict(zip(names, map(float, row), strict=True))]).model_dump_json()
        connection.execute(
            "INSERT INTO prediction_events (request_id, time, model, version, digest, role, "
            "subject, decision, protocol, status,"
            " latency_ms, request) VALUES (%s, now(), 'heart', '1', 'sha256:0', 'live', "
            "'ada', 'role', 'v2', 200, 1.5, %s)",
            (f"same-{index}", body),
        )


@pytest.mark.slow
def test_a_process_logs_progress_to_stderr_and_prints_one_json_line_to_stdout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "slipway_jobs", "train", "digits", "--set", "folds=2", "--set",
        "C=1"],
        capture_output=True, text=True, env=os.environ, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["state"] == "registered"
    assert "candidate logistic C=1: log_loss" in done.stderr


def test_windows_are_parsed_in_seconds_minutes_hours_and_days() -> None:
    assert [window(text).total_seconds() for text in ("90s", "30m", "24h", "7d")] == [
        90,
        1800,
        86400,
        604800,
    ]


def test_register_accepts_a_file_and_its_description(
    capsys: pytest.CaptureFixture[str], tracking: Tracking, tmp_path: Path
) -> None:
    options = [
        *("--use", "returns its input", "--dataset", "none", "--licence", "CC0-1.0"),
        *("--source", "a test", "--tolerance", "0.1"),
    ]
    status, result = run(capsys, "register", "identity", saved(tmp_path, plain(["n", 3])), *options)
    assert (status, result["state"], result["version"]) == (0, "registered", "1")
    card = (
        tracking.download(tracking.version("identity", "1"), tmp_path) / "model_card.md"
    ).read_text()
    for line in ("returns its input", "Trained on: none", "Licence: CC0-1.0", "Source: a test"):
        assert line in card


def test_register_refuses_a_pickle_with_status_3(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "model.joblib").write_bytes(b"anything")
    status, result = run(capsys, "register", "identity", str(tmp_path / "model.joblib"))
    assert (status, result["error"]) == (3, "Refused")
    assert result["reason"].startswith("model.joblib is a pickle, which could run any code")
