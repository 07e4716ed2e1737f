"""Copies of the registry's versions in PostgreSQL, of a real MLflow."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from slipway.packaging import artifact
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import EVALUATION_FILE, PROMOTION, ArtifactFormat, Tag
from slipway_jobs.__main__ import main
from slipway_jobs.registry import version_rows
from slipway_jobs.registry.version_rows import copy_versions, record_decision
from slipway_jobs.settings import Settings

MOVED = "2026-05-01T12:00:00.123456Z"
CONFUSION = {"rows": 3, "recall": {"no": 1.0}, "counts": [[1, 0], [1, 1]]}


@pytest.fixture
def copying(settings: Settings, postgres: str) -> Settings:
    return settings.model_copy(update={"database_url": postgres, "job": "promote-1"})


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).replace("_", "-")[:60]


def register(
    name: str,
    tracking: Tracking,
    folder: Path,
    tags: dict[str, str] | None = None,
    evaluation: Any = {"classes": {"all": CONFUSION}},  # noqa: B006
) -> Version:
    """Register a version of a package that no test loads."""
    with (
        tracking.run(f"test-{name}", name, {}) as run,
        tracking.logged_model(run, name, {}) as model_id,
    ):
        run.log(
            params={"C": "0.1"},
            metrics={
                "test_accuracy": 0.8,
                "baseline_accuracy": 0.5,
                "test_recall_no.sex_male": 0.7,
                "test_calibration_error": float("nan"),
            },
        )
        stored = folder / f"{name}-{model_id}"
        stored.mkdir()
        files = {
            ArtifactFormat.ONNX.file: b"graph",
            EVALUATION_FILE: json.dumps(evaluation).encode(),
        }
        manifest = artifact.write(stored, files, ArtifactFormat.ONNX)
        tracking.upload(model_id, stored)
    described = {Tag.DIGEST.value: manifest.digest, Tag.FORMAT.value: "onnx", **(tags or {})}
    return tracking.register(name, model_id, run, described, "a version of a test")


def rows(url: str, table: str, name: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        query = f"SELECT * FROM {table} WHERE registered_model = %s ORDER BY number"  # noqa: S608
        return connection.execute(query, [name]).fetchall()


def test_all_versions_of_a_model_are_copied_with_scores_and_promotions(
    name: str, copying: Settings, tracking: Tracking, postgres: str, tmp_path: Path
) -> None:
    record = {
        "by": "user:marie", "why": "bet\ud800ter\0", "alias": "champion", "gain": 0.1,
        "low": float("nan"),
    }  # fmt: skip
    first = register(
        name,
        tracking,
        tmp_path,
        {
            Tag.DATASET.value: "cleveland",
            Tag.SIGNER.value: "cd",
            PROMOTION + MOVED: json.dumps(record),
            PROMOTION + "yesterday": "{}",
        },
    )
    second = register(name, tracking, tmp_path)
    tracking.point(name, "champion", first)
    copy_versions(name, copying, tracking)
    one, two = rows(postgres, "registered_versions", name)
    assert (one["number"], two["number"]) == (1, 2)
    assert (one["digest"], one["format"], one["signed_by"]) == (first.digest, "onnx", "cd")
    assert (one["aliases"], two["aliases"]) == (["champion"], [])
    assert one["dataset"] == {"name": "cleveland", "digest": None, "licence": None, "source": None}
    assert two["dataset"] is None
    assert one["metrics"] == {
        "accuracy": {"value": 0.8, "baseline": 0.5},
        "calibration_error": {"value": None, "baseline": None},
    }
    assert (one["parameters"], one["confusion_matrix"]) == ({"C": "0.1"}, CONFUSION)
    assert one["size_bytes"] > len(b"graph")
    assert one["run_id"] == first.run_id
    assert one["created_by"]
    (promotion,) = rows(postgres, "version_promotions", name)
    assert (promotion["result"], promotion["subject"]) == ("promoted", "user:marie")
    assert promotion["detail"] == {"gain": 0.1, "low": None}
    assert promotion["reason"] == "better"
    # A later copy has a new alias, an evaluation, and no second promotion.
    tracking.point(name, "champion", second)
    tracking.tag(second, {"slipway.evaluation.accuracy": "0.9"})
    copy_versions(name, copying, tracking)
    one, two = rows(postgres, "registered_versions", name)
    assert (one["aliases"], two["aliases"]) == ([], ["champion"])
    assert two["metrics"]["accuracy"] == {"value": 0.9, "baseline": 0.5}
    assert len(rows(postgres, "version_promotions", name)) == 1


def test_a_deleted_version_disappears_and_a_young_one_stays(
    name: str, copying: Settings, tracking: Tracking, postgres: str, tmp_path: Path
) -> None:
    register(name, tracking, tmp_path)
    copy_versions(name, copying, tracking)
    with psycopg.connect(postgres) as connection:
        insert = (
            "INSERT INTO registered_versions (registered_model, number, fingerprint, created) "
            "VALUES (%s, %s, 'f', now() - %s::interval)"
        )
        connection.execute(insert, [name, 7, "2 hours"])
        connection.execute(insert, [name, 8, "1 minute"])
    copy_versions(name, copying, tracking)
    assert [row["number"] for row in rows(postgres, "registered_versions", name)] == [1, 8]


def test_a_job_reads_few_new_versions_and_the_next_one_the_others(
    name: str, copying: Settings, tracking: Tracking, postgres: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(version_rows, "MOST_READ", 1)
    for _ in range(2):
        register(name, tracking, tmp_path)
    copy_versions(name, copying, tracking)
    assert [row["number"] for row in rows(postgres, "registered_versions", name)] == [2]
    copy_versions(name, copying, tracking)
    assert [row["number"] for row in rows(postgres, "registered_versions", name)] == [1, 2]


class Interrupted(Tracking):
    """A registry whose runs or artifacts cannot be read, of a server that does not answer."""

    def __init__(self, uri: str, method: str) -> None:
        super().__init__(uri)
        setattr(self, method, getattr(Tracking("http://127.0.0.1:9"), method))


@pytest.mark.parametrize("method", ["run_record", "file"])
def test_the_next_job_repairs_an_unread_version(
    name: str, copying: Settings, tracking: Tracking, postgres: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, method: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    version = register(name, tracking, tmp_path, {Tag.SIGNER.value: "cd"})
    interrupted = Interrupted(copying.mlflow_tracking_uri, method)
    copy_versions(name, copying, interrupted)
    (row,) = rows(postgres, "registered_versions", name)
    assert (row["signed_by"], row["parameters"], row["size_bytes"]) == ("cd", {}, None)
    copy_versions(name, copying, tracking)
    (row,) = rows(postgres, "registered_versions", name)
    assert (row["parameters"], row["confusion_matrix"]) == ({"C": "0.1"}, CONFUSION)
    # An interruption after a change of the tags leaves the complete row as it is.
    tracking.tag(version, {"slipway.evaluation.accuracy": "0.9"})
    copy_versions(name, copying, interrupted)
    assert rows(postgres, "registered_versions", name) == [row]
    copy_versions(name, copying, tracking)
    (row,) = rows(postgres, "registered_versions", name)
    assert row["metrics"]["accuracy"]["value"] == 0.9


def test_a_large_or_invalid_confusion_matrix_is_left_out(
    name: str, copying: Settings, tracking: Tracking, postgres: str, tmp_path: Path
) -> None:
    for matrix, rest in (([1], ""), ({"counts": "x" * 2**16}, ""), (CONFUSION, "x" * 2**20)):
        register(name, tracking, tmp_path, evaluation={"classes": {"all": matrix}, "rest": rest})
    copy_versions(name, copying, tracking)
    found = rows(postgres, "registered_versions", name)
    assert [row["confusion_matrix"] for row in found] == [None] * 3
    assert all(row["size_bytes"] and row["fingerprint"] for row in found)


def test_a_decision_without_a_move_is_recorded_with_its_job(
    name: str, copying: Settings, postgres: str
) -> None:
    result = {"model": name, "version": "4", "alias": "champion", "reason": "worse", "gain": -0.1}
    for state in ("promoted", "unchanged"):
        record_decision({**result, "state": state, "dryRun": False}, copying)
    record_decision({**result, "state": "refused", "dryRun": True}, copying)
    (row,) = rows(postgres, "version_promotions", name)
    assert (row["result"], row["promotion_id"], row["dry_run"]) == ("refused", "promote-1", True)
    assert (row["subject"], row["detail"]) == ("job:ada", {"gain": -0.1})


@pytest.fixture
def environment(
    copying: Settings, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copying.mlflow_tracking_uri)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", postgres)
    return monkeypatch


def test_a_command_copies_the_versions_of_its_model(
    name: str, environment: pytest.MonkeyPatch, tracking: Tracking, postgres: str, tmp_path: Path
) -> None:
    register(name, tracking, tmp_path)  # without a database, as in a notebook
    register(name, tracking, tmp_path)
    assert main(["adopt", name, "2"]) == 0
    assert [row["number"] for row in rows(postgres, "registered_versions", name)] == [1, 2]
    # The result does not depend on the database.
    environment.setenv("SLIPWAY_DATABASE_URL", "postgresql://127.0.0.1:9/x")
    assert main(["adopt", name, "2"]) == 0


def test_a_name_that_the_registry_does_not_have_is_a_warning(
    copying: Settings, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    copy_versions("it's missing", copying, tracking)
    assert "are not copied to PostgreSQL" in caplog.text
