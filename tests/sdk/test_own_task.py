"""A task on a data frame: from its declaration to a registered version."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from slipway.cli import commands
from slipway.errors import Leakage, Unavailable, WrongParameter
from slipway.registry.tracking import Tracking
from slipway.training import MAE, ByTime, Classes, Quantity, Task
from slipway.training.fitting import check_fit
from slipway.training.frame import load_frame
from slipway.training.frame_training import train_frame
from slipway.training.split import check_split
from slipway.training.task import parameters_schema, parse_parameters
from slipway_contract.registry import Tag
from slipway_contract.signature import Signature

from tests.sdk.own_task import build, load, task


@pytest.fixture(scope="module")
def trained(tracking: Tracking) -> dict[str, Any]:
    return train_frame(task, parse_parameters(task, {"C": "0.5"}), tracking, {"made.by": "test"})


def test_a_version_of_a_data_frame_has_everything_that_a_version_has(
    trained: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    version = tracking.version("own-churn", trained["version"])
    folder = tracking.download(version, tmp_path)
    assert {"model.onnx", "reference.json", "input_example.json"} <= {
        p.name for p in folder.iterdir()
    }
    assert version.tags["made.by"] == "test"
    assert version.tags[Tag.EVALUATION_DIGEST].startswith("sha256:")
    signature = Signature.model_validate_json((folder / "signature.json").read_bytes())
    inputs = {column.name: column for column in signature.inputs}
    assert "customer" not in inputs
    assert "left" not in inputs
    assert inputs["monthly fee"].missing
    assert inputs["city"].missing
    assert trained["metrics"]["auc"] > 0.7
    assert trained["metrics"]["auc"] > trained["baseline"]["auc"]
    found = tracking.metrics(version)
    assert found["test_auc"] == trained["metrics"]["auc"]
    assert found["evaluation_auc"] == pytest.approx(trained["metrics"]["auc"], abs=1e-6)


def test_rows_of_a_subject_are_in_one_part() -> None:
    loaded = load_frame(task)
    split = task.parts(loaded.table, loaded.entry.subject)
    assert "customers held out" in split.rule
    assert not np.intersect1d(split.train.groups, split.test.groups).size
    assert sorted(set(split.test.truth.tolist())) == ["leaves", "stays"]


def test_the_digest_depends_on_the_rows_and_not_on_their_order() -> None:
    shuffled = replace(task, data=lambda: load().sample(frac=1, random_state=1))
    assert load_frame(shuffled).table.digest == load_frame(task).table.digest
    shorter = replace(task, data=lambda: load()[:-1])
    assert load_frame(shorter).table.digest != load_frame(task).table.digest


def test_rows_that_change_after_the_split_are_found() -> None:
    loaded = load_frame(task)
    split = task.parts(loaded.table, "customer")
    changed = split.train.features.assign(age=0)
    with pytest.raises(Leakage, match="rows differ from the dataset"):
        check_split(
            loaded.table, replace(split, train=replace(split.train, features=changed)), task.split
        )


def test_a_random_estimator_without_a_seed_is_named_with_the_remedy() -> None:
    from sklearn.ensemble import RandomForestClassifier

    table = load_frame(replace(task, data=lambda: load()[["age", "left", "customer"]])).table
    forest = RandomForestClassifier(5).fit(table.features, table.labels)
    with pytest.raises(Leakage, match=r"give it random_state=parameters\.seed"):
        check_fit(task, forest, table)


def days() -> pd.DataFrame:
    stamps = pd.date_range("2024-01-01", periods=120).astype(str)
    return pd.DataFrame({"day": stamps, "x": np.arange(120.0), "units": np.arange(120.0) * 2})


def test_a_quantity_is_split_by_time(tracking: Tracking) -> None:
    from sklearn.linear_model import LinearRegression

    own = Task(
        name="own-units", data=days, target=Quantity(column="units"),
        split=ByTime(days=28, column="day"), estimators=lambda _: {"line": LinearRegression()},
        metrics=(MAE,),
    )  # fmt: skip
    result = train_frame(own, parse_parameters(own, {"folds": "2"}), tracking)
    assert result["metrics"]["mae"] < 1e-3
    assert own.selection is MAE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": lambda: 1 / 0}, "failed: ZeroDivisionError"),
        ({"target": Classes(2, column="gone")}, "has no column 'gone'; its columns are"),
        ({"target": Classes(3, column="left")}, r"has 2 classes \(.leaves., .stays.\)"),
        ({"target": Quantity(column="city")}, "values of 'city' are missing"),
        ({"target": Quantity(column="note")}, "which is not a number"),
        ({"split": ByTime(column="note")}, "has a value that is no day"),
        ({"split": ByTime()}, "its split has no column"),
        ({"data": lambda: load()[:0]}, "has no rows"),
        ({"data": lambda: [1]}, "is a list; give a pandas.DataFrame"),
    ],
)
def test_rows_that_do_not_fit_the_task_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises((WrongParameter, Unavailable), match=reason):
        load_frame(replace(task, **changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"datasets": ("rows",)}, "has data and datasets, or neither"),
        ({"data": None}, "has data and datasets, or neither"),
        ({"data": None, "datasets": ("rows",)}, "has datasets and no signature"),
        ({"target": Classes(2)}, "its target has no column"),
        ({"metrics": ()}, "metrics is empty"),
    ],
)
def test_a_contradictory_task_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(WrongParameter, match=reason):
        replace(task, **changes)


def test_a_task_on_a_data_frame_has_no_parameter_dataset() -> None:
    assert "dataset" not in parameters_schema(task)["properties"]
    with pytest.raises(WrongParameter, match="dataset: is not a parameter of own-churn"):
        parse_parameters(task, {"dataset": "x"})


@pytest.mark.usefixtures("tracking")
def test_the_command_trains_a_task_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in docs/how-to/own-tasks.md."""
    (tmp_path / "my_churn.py").write_text("from tests.sdk.own_task import task\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    done = CliRunner().invoke(commands, ["train", "my_churn:task", "--set", "C=2"])
    assert done.exit_code == 0, done.output
    assert "own-churn/" in done.output
    assert "auc 0." in done.output


def test_a_task_on_datasets_is_refused_with_the_command_of_jobs() -> None:
    done = CliRunner().invoke(commands, ["train", "digits"])
    assert isinstance(done.exception, WrongParameter)
    assert "python -m slipway_jobs train digits" in str(done.exception)


def test_an_instance_has_null_for_a_missing_value() -> None:
    row = load()[:1].drop(columns=["customer", "left"])
    assert json.dumps(task.instance(row))
    assert task.instance(row)["monthly fee"] is None
    assert list(build(parse_parameters(task, {}))) == ["logistic C=1"]  # type: ignore[arg-type]
