"""The dataset store, and evaluations on stored tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from slipway.errors import CorruptTable, WrongDigest
from slipway.registry.tracking import Tracking
from slipway.training.dataset import Dataset, Loaded, SourceKind, Table
from slipway.training.installed import dataset_names, declared_dataset
from slipway.training.task import Task
from slipway_contract.registry import Tag
from slipway_ecg.synthetic_beats import synthetic_beats
from slipway_heart import datasets as heart_datasets
from slipway_heart.synthetic import synthetic_heart
from slipway_jobs.datasets.dataset_store import (
    ENTRY_FILE,
    TABLE_FILE,
    read_table,
    store_table,
    stored_table,
    write_table,
)
from slipway_jobs.datasets.storing import store, store_all
from slipway_jobs.promotion.evaluation import evaluate
from slipway_jobs.settings import Settings

from tests.jobs.conftest import Trainer

ROWS = np.random.default_rng(0).normal(size=(40, 3))
DAYS = np.datetime64("2026-01-01") + np.arange(40) % 7
BARE = Dataset("bare", "without a schema", "the test", "Apache-2.0", "none", "row")
TABLES = {
    "heart-synthetic": synthetic_heart(20),
    "ecg-synthetic": synthetic_beats(records=2, beats=5),
    "quantities of a day": Table.of(
        ROWS, ROWS[:, 0] * 3.5, groups=[str(n % 5) for n in range(40)], times=DAYS
    ),
    "texts": Table.of(np.array([["a", "ö"], ["", "b\n"]], dtype=object), np.array([0, 1])),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_from_parquet_as_it_was(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    write_table(
        table, (declared_dataset(name) if name in dataset_names() else BARE), tmp_path / TABLE_FILE
    )
    again = read_table(tmp_path / TABLE_FILE)
    assert again.digest == table.digest
    assert again.features.dtype == table.features.dtype
    assert again.labels.tolist() == table.labels.tolist()


def test_parquet_has_a_column_of_its_name_for_each_input_and_null_for_what_is_missing(
    tmp_path: Path,
) -> None:
    table = TABLES["heart-synthetic"]
    write_table(table, declared_dataset("heart-synthetic"), tmp_path / TABLE_FILE)
    found = pq.read_table(tmp_path / TABLE_FILE)
    assert found.column_names[:3] == ["age", "sex", "cp"]
    assert found["ca"].null_count == np.isnan(table.features[:, 11]).sum()
    entry = json.loads(found.schema.metadata[b"slipway"])
    assert next(column["unit"] for column in entry["schema"] if column["name"] == "chol") == "mg/dL"
    assert entry["digest"] == table.digest


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / TABLE_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(CorruptTable, match=r"table.parquet cannot be read as Parquet"):
        read_table(tmp_path / TABLE_FILE)


def loaded(name: str) -> Loaded:
    """Return a loaded dataset with a unique table."""
    table = synthetic_heart(12, seed=sum(name.encode()))
    return Loaded(
        replace(declared_dataset("heart-synthetic"), name=name), table, SourceKind.GENERATOR
    )


def test_a_table_is_kept_once_and_had_back_by_its_digest(
    tracking: Tracking, mlflow_url: str
) -> None:
    mine = loaded("stored-once")
    assert stored_table("stored-once", mine.table.digest, tracking) is None
    first, second = store_table(mine, tracking), store_table(mine, tracking)
    assert (first.new, second.new, second.run_id) == (True, False, first.run_id)
    again = stored_table("stored-once", mine.table.digest, tracking)
    assert again is not None
    assert again.digest == mine.table.digest
    client = MlflowClient(tracking_uri=mlflow_url)
    tags = client.get_run(first.run_id).data.tags
    assert tags[Tag.DATASET_LICENCE] == "Apache-2.0"
    assert tags[Tag.DATASET_SOURCE_KIND] == "generator"
    assert {file.path for file in client.list_artifacts(first.run_id)} == {TABLE_FILE, ENTRY_FILE}


def test_a_stored_table_that_was_changed_is_refused(
    tracking: Tracking, mlflow_url: str, tmp_path: Path
) -> None:
    mine = loaded("changed")
    run_id = store_table(mine, tracking).run_id
    write_table(mine.table.take(np.arange(11)), mine.entry, tmp_path / TABLE_FILE)
    MlflowClient(tracking_uri=mlflow_url).log_artifact(run_id, str(tmp_path / TABLE_FILE))
    with pytest.raises(WrongDigest, match=f"table.parquet of run {run_id} has the digest"):
        stored_table("changed", mine.table.digest, tracking)


def test_a_dataset_that_is_stored_twice_is_unchanged(
    settings: Settings, tracking: Tracking
) -> None:
    first, second = (store("climate-synthetic", settings, tracking) for _ in range(2))
    assert second == {**first, "state": "unchanged"}
    assert second["sourceKind"] == "generator"
    assert second["synthetic"] is True


@pytest.mark.slow
def test_of_all_datasets_those_that_cannot_be_had_are_named_with_the_reason(
    settings: Settings, tracking: Tracking
) -> None:
    found = {each["dataset"]: each for each in store_all(settings, tracking)["datasets"]}
    assert sorted(found) == dataset_names()
    assert found["digits"]["sourceKind"] == "package"
    assert found["heart-cleveland-recoded"]["state"] == "unavailable"
    assert (
        "not in the mirror" in found["heart-cleveland-recoded"]["reason"] or settings.data is None
    )


@pytest.mark.slow
def test_a_version_is_scored_on_the_stored_copy_when_the_source_has_changed(
    own_heart: Task,
    trained: Trainer,
    settings: Settings,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = trained(own_heart, dataset="heart-synthetic", C="0.1", folds="2")
    changed = replace(declared_dataset("heart-synthetic"), make=lambda: synthetic_heart(30, seed=5))
    monkeypatch.setattr(heart_datasets, "HEART_SYNTHETIC", changed)
    found = evaluate(
        own_heart, tracking.version(own_heart.name, result["version"]), settings, tracking
    )
    assert found["metrics"] == pytest.approx(result["metrics"], abs=1e-4)
