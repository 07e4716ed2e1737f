"""The drift monitor on a real event log, with a real registry."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from mlflow.artifacts import load_text
from slipway.errors import NoSuchVersion, WrongParameter
from slipway.registry.tracking import Tracking
from slipway.training.dataset import Floats
from slipway.training.installed import declared_dataset, declared_task
from slipway_contract.registry import CHAMPION
from slipway_jobs.datasets.sources import load
from slipway_jobs.errors import EventLogError
from slipway_jobs.monitoring.monitoring import monitor
from slipway_jobs.settings import Settings

IDS = count()
DAY = timedelta(hours=24)


@pytest.fixture
def settings_with_log(settings: Settings, postgres: str) -> Settings:
    with psycopg.connect(postgres) as connection:
        connection.execute("TRUNCATE prediction_events")
    return settings.model_copy(update={"database_url": postgres})


@pytest.fixture(autouse=True)
def live(heart: dict[str, Any], tracking: Tracking) -> None:
    tracking.point("heart", CHAMPION, tracking.version("heart", heart["version"]))


@pytest.fixture
def patients(heart: dict[str, Any], settings: Settings) -> Floats:
    """Held-out patients, which are not in the reference."""
    entry = declared_dataset(heart["dataset"])
    task = declared_task("heart")
    split = task.split.hold_out(load(entry, settings), task.target, entry.subject)
    return np.asarray(split.test.features)


def body(rows: Floats) -> str:
    names = [column.name for column in declared_task("heart").signature.inputs]
    values = [
        {name: None if np.isnan(v) else float(v) for name, v in zip(names, row, strict=True)}
        for row in rows
    ]
    return declared_task("heart").signature.request(values).model_dump_json(exclude_none=False)


def log(
    url: str,
    request: str | None,
    *,
    model: str = "heart",
    status: int = 200,
    age: timedelta = timedelta(hours=1),
) -> None:
    row = (
        f"r{next(IDS)}",
        datetime.now(UTC) - age,
        model,
        "1",
        "sha256:0",
        "live",
        "ada",
        "role",
        "v2",
        status,
        1.5,
        request,
    )
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO prediction_events (request_id, time, model, version, digest, role, "
            "subject, decision, protocol,"
            " status, latency_ms, request) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            row,
        )


def run_monitor(
    settings_with_log: Settings, tracking: Tracking, *, min_rows: int = 50, limit: int = 100
) -> dict[str, Any]:
    return monitor("heart", CHAMPION, DAY, min_rows, limit, settings_with_log, tracking)


def test_patients_with_the_training_distribution_are_stable(
    settings_with_log: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    for part in np.array_split(patients, 9):
        log(postgres, body(part))
    result = run_monitor(settings_with_log, tracking)
    assert (result["state"], result["drifted"]) == ("stable", [])
    assert (result["requests"], result["rows"], result["unreadable"]) == (9, len(patients), 0)


def test_older_patients_are_drift_of_the_named_input(
    settings_with_log: Settings,
    tracking: Tracking,
    postgres: str,
    patients: Floats,
    mlflow_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = patients.copy()
    older[:, 0] = np.minimum(older[:, 0] + 20, 120)
    log(postgres, body(older))
    result = run_monitor(settings_with_log, tracking)
    assert (result["state"], result["drifted"]) == ("drift", ["age"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    report = json.loads(load_text(f"runs:/{result['runId']}/drift.json"))
    assert [column["name"] for column in report["columns"] if column["drifted"]] == ["age"]
    page = load_text(f"runs:/{result['runId']}/drift.html")
    assert '<tr class="drifted"><td>age</td>' in page


def test_few_rows_have_no_result(
    settings_with_log: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    log(postgres, body(patients[:10]))
    result = run_monitor(settings_with_log, tracking)
    assert (result["state"], result["rows"], result["drifted"]) == ("too few rows", 10, [])


def test_only_answered_requests_of_the_model_in_the_window_count(
    settings_with_log: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    log(postgres, body(patients[:2]))
    log(postgres, body(patients[:3]), age=timedelta(hours=25))
    log(postgres, body(patients[:5]), model="digits")
    log(postgres, body(patients[:7]), status=422)
    assert run_monitor(settings_with_log, tracking, min_rows=1)["rows"] == 2


def test_the_newest_requests_are_read_when_there_are_more_than_the_limit(
    settings_with_log: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    for hours in (1, 2, 3):
        log(postgres, body(patients[:hours]), age=timedelta(hours=hours))
    assert run_monitor(settings_with_log, tracking, min_rows=1, limit=2)["rows"] == 1 + 2


def test_unreadable_bodies_are_counted_and_skipped(
    settings_with_log: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    for text in (
        None,
        "",
        "not JSON",
        '{"inputs": []}',
        body(patients[:1]).replace('"age"', '"years"'),
    ):
        log(postgres, text)
    log(postgres, body(patients[:4]))
    result = run_monitor(settings_with_log, tracking, min_rows=4)
    assert (result["requests"], result["unreadable"], result["rows"]) == (6, 5, 4)


def test_a_missing_event_log_is_reported(
    settings_with_log: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    nowhere = settings_with_log.model_copy(
        update={"database_url": f"postgresql:///slipway?host={tmp_path}"}
    )
    with pytest.raises(EventLogError, match=r"(?s)cannot be read: .*check SLIPWAY_DATABASE_URL"):
        run_monitor(nowhere, tracking)
    with pytest.raises(WrongParameter, match="SLIPWAY_DATABASE_URL: is not set"):
        run_monitor(settings_with_log.model_copy(update={"database_url": None}), tracking)


def test_a_database_without_tables_is_reported_with_the_command(
    settings_with_log: Settings, tracking: Tracking, postgres: str
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    bare = settings_with_log.model_copy(
        update={"database_url": postgres.replace("/postgres?", "/bare?")}
    )
    with pytest.raises(
        EventLogError,
        match="no table prediction_events yet; run: python -m slipway_gateway migrate",
    ):
        run_monitor(bare, tracking)


def test_a_model_without_a_live_version_is_reported(
    settings_with_log: Settings, tracking: Tracking
) -> None:
    with pytest.raises(NoSuchVersion, match="digits: no version has the alias unset"):
        monitor("digits", "unset", DAY, 1, 1, settings_with_log, tracking)
