"""The monitor on a real event log, with a real registry."""

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from mlflow.artifacts import load_text
from slipway_contract.registry import CHAMPION
from slipway_jobs.data.dataset import Floats
from slipway_jobs.datasets.sources import DATASETS, load
from slipway_jobs.errors import EventLogError, NoSuchVersion, WrongParameter
from slipway_jobs.monitoring.monitoring import monitor
from slipway_jobs.registry.tracking import Tracking
from slipway_jobs.settings import Settings
from slipway_jobs.tasks.task import declared_task

IDS = count()
DAY = timedelta(hours=24)


@pytest.fixture
def told(settings: Settings, postgres: str) -> Settings:
    with psycopg.connect(postgres) as connection:
        connection.execute("TRUNCATE prediction_events")
    return settings.model_copy(update={"database_url": postgres})


@pytest.fixture(autouse=True)
def live(heart: dict[str, Any], tracking: Tracking) -> None:
    tracking.point("heart", CHAMPION, tracking.version("heart", heart["version"]))


@pytest.fixture
def patients(heart: dict[str, Any], settings: Settings) -> Floats:
    """The held-out patients: the reference was not made from them."""
    entry = DATASETS[heart["dataset"]]
    task = declared_task("heart")
    return task.split.hold_out(load(entry, settings), task.target, entry.subject).test.features


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


def look(
    told: Settings, tracking: Tracking, *, min_rows: int = 50, limit: int = 100
) -> dict[str, Any]:
    return monitor("heart", CHAMPION, DAY, min_rows, limit, told, tracking)


def test_patients_like_those_of_the_training_are_stable(
    told: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    for part in np.array_split(patients, 9):
        log(postgres, body(part))
    result = look(told, tracking)
    assert (result["state"], result["drifted"]) == ("stable", [])
    assert (result["requests"], result["rows"], result["unreadable"]) == (9, len(patients), 0)


def test_older_patients_are_drift_and_the_report_names_the_input(
    told: Settings,
    tracking: Tracking,
    postgres: str,
    patients: Floats,
    mlflow_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = patients.copy()
    older[:, 0] = np.minimum(older[:, 0] + 20, 120)
    log(postgres, body(older))
    result = look(told, tracking)
    assert (result["state"], result["drifted"]) == ("drift", ["age"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    report = json.loads(load_text(f"runs:/{result['runId']}/drift.json"))
    assert [column["name"] for column in report["columns"] if column["drifted"]] == ["age"]
    page = load_text(f"runs:/{result['runId']}/drift.html")
    assert '<tr class="drifted"><td>age</td>' in page


def test_a_few_rows_say_nothing(
    told: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    log(postgres, body(patients[:10]))
    result = look(told, tracking)
    assert (result["state"], result["rows"], result["drifted"]) == ("too few rows", 10, [])


def test_only_answered_requests_of_the_model_in_the_window_count(
    told: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    log(postgres, body(patients[:2]))
    log(postgres, body(patients[:3]), age=timedelta(hours=25))
    log(postgres, body(patients[:5]), model="digits")
    log(postgres, body(patients[:7]), status=422)
    assert look(told, tracking, min_rows=1)["rows"] == 2


def test_the_newest_requests_are_read_when_there_are_more_than_the_limit(
    told: Settings, tracking: Tracking, postgres: str, patients: Floats
) -> None:
    for hours in (1, 2, 3):
        log(postgres, body(patients[:hours]), age=timedelta(hours=hours))
    assert look(told, tracking, min_rows=1, limit=2)["rows"] == 1 + 2


def test_bodies_that_cannot_be_read_are_counted_and_left_out(
    told: Settings, tracking: Tracking, postgres: str, patients: Floats
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
    result = look(told, tracking, min_rows=4)
    assert (result["requests"], result["unreadable"], result["rows"]) == (6, 5, 4)


def test_an_event_log_that_is_not_there_is_named(
    told: Settings, tracking: Tracking, tmp_path: Path
) -> None:
    nowhere = told.model_copy(update={"database_url": f"postgresql:///slipway?host={tmp_path}"})
    with pytest.raises(EventLogError, match=r"(?s)cannot be read: .*check SLIPWAY_DATABASE_URL"):
        look(nowhere, tracking)
    with pytest.raises(WrongParameter, match="SLIPWAY_DATABASE_URL: is not set"):
        look(told.model_copy(update={"database_url": None}), tracking)


def test_a_database_without_the_tables_says_what_makes_them(
    told: Settings, tracking: Tracking, postgres: str
) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bare")
    bare = told.model_copy(update={"database_url": postgres.replace("/postgres?", "/bare?")})
    with pytest.raises(
        EventLogError,
        match="no table prediction_events yet; run: python -m slipway_gateway migrate",
    ):
        look(bare, tracking)


def test_without_a_live_version_there_is_nothing_to_compare_with(
    told: Settings, tracking: Tracking
) -> None:
    with pytest.raises(NoSuchVersion, match="digits: no version is nobody"):
        monitor("digits", "nobody", DAY, 1, 1, told, tracking)
