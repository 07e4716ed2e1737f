"""A task on a data frame: from its declaration to a registered version."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pydantic import model_validator
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from slipway.cli import commands
from slipway.errors import Leakage, Unavailable, WrongParameter
from slipway.registry.evaluations import read_table
from slipway.registry.tracking import Tracking
from slipway.training import (
    ACCURACY,
    AUC,
    MAE,
    BySubject,
    ByTime,
    Classes,
    Parameters,
    Quantity,
    Task,
)
from slipway.training.fitting import check_fit, choose
from slipway.training.frame import load_frame
from slipway.training.frame_training import train_frame
from slipway.training.split import check_split
from slipway.training.task import parameters_schema, parse_parameters
from slipway_contract.registry import Tag
from slipway_contract.signature import Signature
from slipway_jobs.promotion.evaluation import StoredTable
from xgboost import XGBClassifier

from tests.sdk.own_task import build, load, task

BY_MAE = {"metrics": (MAE,), "selection": MAE}
BY_ACCURACY = {"metrics": (ACCURACY,), "selection": ACCURACY}


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


def test_the_held_out_rows_do_not_depend_on_types_and_order_of_the_columns() -> None:
    def held_out(frame: pd.DataFrame) -> set[float]:
        own = of(LogisticRegression(), data=lambda: frame, split=BySubject())
        return set(own.parts(load_frame(own).table, "row").test.features["a"])

    rows = separable()
    before = held_out(rows)
    assert held_out(rows[["left", "customer", "b", "a"]]) == before
    gap = rows[:1].assign(customer=np.nan, a=9.0)
    after = held_out(pd.concat([rows, gap], ignore_index=True))
    assert len(after ^ before) <= 2, "only the share's rounding and the new row differ"


def test_the_card_has_title_and_limits_of_the_task(tracking: Tracking, tmp_path: Path) -> None:
    result = trained_with(
        LogisticRegression(), tracking, title="Churn of ours", limits=("Not for credit.",)
    )
    folder = tracking.download(tracking.version("own-other", result["version"]), tmp_path)
    (card,) = folder.glob("*.md")
    text = card.read_text()
    assert "Churn of ours" in text
    assert "## Limits\n- Not for credit." in text


@pytest.mark.parametrize("kind", [bool, float, int])
def test_numeric_classes_are_whole_numbers_as_the_served_label(kind: type) -> None:
    own = replace(task, data=lambda: load().assign(left=lambda rows: (rows["age"] > 40).map(kind)))
    table = load_frame(own).table
    assert table.classes == (0, 1)
    assert {type(each) for each in table.truth.tolist()} == {int}


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
    forest = RandomForestClassifier(5).fit(table.features, table.truth)
    with pytest.raises(Leakage, match=r"give it random_state=parameters\.seed"):
        check_fit(task, forest, table)


def own_rows(labels: list[Any]) -> pd.DataFrame:
    """Return 400 rows with labels that repeat, each of its own customer."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(400, 2))
    left = labels * (400 // len(labels))
    return pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "customer": range(400)}).assign(
        left=left
    )


def separable() -> pd.DataFrame:
    """Return rows of which a quarter leaves, most of them with a high ``a``."""
    rows = own_rows(["stays"])
    noise = np.random.default_rng(1).normal(size=400)
    return rows.assign(left=np.where(rows["a"] + noise > 1, "yes", "no"))


def of(estimator: Any, **changes: Any) -> Task:
    given = {"data": separable, "estimators": lambda _: {"one": estimator}, **changes}
    return replace(task, name="own-other", **given)


def trained_with(estimator: Any, tracking: Tracking, **changes: Any) -> dict[str, Any]:
    own = of(estimator, **changes)
    return train_frame(own, parse_parameters(own, {}), tracking)


@pytest.mark.slow
def test_an_estimator_is_fitted_on_the_labels_that_it_is_served_with(tracking: Tracking) -> None:
    weighted = LogisticRegression(class_weight={"no": 1, "yes": 3})
    assert trained_with(weighted, tracking)["metrics"]["auc"] > 0.7
    tuned = TunedThresholdClassifierCV(LogisticRegression(), scoring="balanced_accuracy")
    assert trained_with(tuned, tracking)["metrics"]["auc"] > 0.7


def test_an_estimator_that_cannot_be_fitted_is_named_with_the_remedy(tracking: Tracking) -> None:
    trees = XGBClassifier(n_estimators=3)
    with pytest.raises(WrongParameter, match=r"XGBClassifier cannot .*; XGBoost takes"):
        trained_with(trees, tracking)
    encoded = separable().assign(left=lambda rows: (rows["left"] == "yes").astype(int))
    result = trained_with(trees, tracking, data=lambda: encoded)
    assert result["metrics"]["auc"] > 0.6


def test_labels_are_scored_with_the_threshold_of_the_estimator(tracking: Tracking) -> None:
    low = FixedThresholdClassifier(LogisticRegression(), threshold=0.15)
    result = trained_with(low, tracking, metrics=(ACCURACY, AUC), selection=ACCURACY)
    served = tracking.metrics(tracking.version("own-other", result["version"]))
    assert result["metrics"]["accuracy"] == served["evaluation_accuracy"]
    assert result["metrics"]["accuracy"] < result["baseline"]["accuracy"]
    assert result["metrics"]["auc"] == pytest.approx(served["evaluation_auc"], abs=1e-6)


def test_a_metric_of_probabilities_needs_an_estimator_with_them(tracking: Tracking) -> None:
    with pytest.raises(WrongParameter, match="auc needs probabilities, and LinearSVC has no"):
        trained_with(LinearSVC(), tracking)
    assert trained_with(LinearSVC(), tracking, metrics=(ACCURACY,), selection=ACCURACY)["version"]


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_fold_of_one_class_has_no_value_of_a_rank_metric(tracking: Tracking) -> None:
    rare = separable().assign(left=["yes"] * 2 + ["no"] * 398)
    with pytest.raises(WrongParameter, match=r"auc has no value on .* rows of one class"):
        trained_with(
            make_pipeline(DummyClassifier()), tracking, data=lambda: rare, split=BySubject()
        )


def test_predictions_that_are_not_numbers_are_no_equal_predictions() -> None:
    class Undefined(DummyRegressor):  # type: ignore[misc]  # scikit-learn comes without types
        def predict(self, x: Any) -> Any:
            return np.full(len(x), np.nan)

    own = replace(
        task, data=lambda: own_rows([1.0, 2.0]), target=Quantity(column="left"), metrics=(MAE,),
        selection=MAE,
    )  # fmt: skip
    table = load_frame(own).table
    with pytest.raises(Leakage, match="difference nan"):
        check_fit(own, Undefined().fit(table.features, table.truth), table)


def test_a_day_with_a_time_zone_is_the_local_day() -> None:
    late = pd.date_range("2024-01-01 00:30", periods=120, tz="Asia/Tokyo")
    own = Task(
        name="own-units", data=lambda: days().assign(day=late), target=Quantity(column="units"),
        split=ByTime(column="day"), estimators=lambda _: {}, metrics=(MAE,),
    )  # fmt: skip
    times = load_frame(own).table.times
    assert times is not None
    assert times.min() == np.datetime64("2024-01-01")


def test_the_reason_of_a_validator_of_all_parameters_is_given() -> None:
    class Bounds(Parameters):
        low: int = 1
        """smallest"""
        high: int = 2
        """largest"""

        @model_validator(mode="after")
        def _check(self) -> "Bounds":
            if self.low > self.high:
                raise ValueError("low exceeds high")
            return self

    with pytest.raises(WrongParameter, match="low exceeds high"):
        parse_parameters(replace(task, parameters=Bounds), {"low": "9"})


def test_rows_of_a_subject_are_one_group_of_the_gate(
    trained: dict[str, Any], tracking: Tracking, tmp_path: Path
) -> None:
    version = tracking.version("own-churn", trained["version"])
    folder = tracking.download(version, tmp_path)
    signature = Signature.model_validate_json((folder / "signature.json").read_bytes())
    content = read_table("own-churn", version.tags[Tag.EVALUATION_DIGEST], tracking)
    groups = StoredTable(version, signature, content, tracking).groups
    loaded = load_frame(task)
    test = task.parts(loaded.table, loaded.entry.subject).test
    assert groups.tolist() == np.unique(test.groups, return_inverse=True)[1].tolist()
    assert len(np.unique(groups)) < len(groups)
    plain = pd.read_parquet(BytesIO(content)).drop(columns="row.group")
    plain.to_parquet(tmp_path / "plain.parquet", index=False)
    old = StoredTable(version, signature, (tmp_path / "plain.parquet").read_bytes(), tracking)
    assert old.groups.tolist() == list(range(len(groups)))


@pytest.mark.parametrize(
    ("share", "rows", "reason"),
    [
        (0.3, 10, "folds: 3 is more than the 2 training subjects"),
        (0.001, 400, "share: 0.001 holds out no row"),
    ],
)
def test_too_few_subjects_are_refused(share: float, rows: int, reason: str) -> None:
    own = of(
        LogisticRegression(),
        data=lambda: (
            own_rows(["yes", "no"])[:rows].assign(customer=[i % 3 for i in range(rows)])
            if rows == 10
            else separable()
        ),
        split=BySubject(share, column="customer"),
    )
    with pytest.raises(WrongParameter, match=reason):
        choose(own, parse_parameters(own, {}), own.parts(load_frame(own).table, "customer").train)


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
        (
            {"target": Classes(3, column="left"), **BY_ACCURACY},
            r"has 2 classes \(.leaves., .stays.\)",
        ),
        ({"target": Quantity(column="city"), **BY_MAE}, "values of 'city' are missing"),
        ({"target": Quantity(column="note"), **BY_MAE}, "which is not a number"),
        ({"split": ByTime(column="note")}, "has a value that is no day"),
        ({"split": ByTime()}, "its split has no column"),
        ({"data": lambda: load()[:0]}, "has no rows"),
        ({"data": lambda: own_rows([1, "a"])}, "'left' has values of the types number, text"),
        (
            {
                "data": lambda: own_rows([np.inf, 1.0]),
                "target": Quantity(column="left"),
                "metrics": (MAE,),
                "selection": MAE,
            },
            "200 values of 'left' are infinite",
        ),
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
        ({"slices": ("city",), "relabel": np.abs}, "relabel, slices would have no effect"),
        ({"metrics": (MAE,)}, "mae is none of 2 classes"),
        ({"target": Quantity(column="left")}, "is none of a quantity"),
        ({"target": Classes(3, column="left")}, "auc needs 2 classes, and the target has 3"),
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


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_the_result_of_a_training_here_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_churn.py").write_text("from tests.sdk.own_task import task\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    done = CliRunner().invoke(commands, ["train", "my_churn:task", "-o", "json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["auc"] > 0.5


def test_a_task_on_datasets_is_refused_with_the_command_of_jobs() -> None:
    done = CliRunner().invoke(commands, ["train", "digits", "--local"])
    assert isinstance(done.exception, WrongParameter)
    assert "python -m slipway_jobs train digits" in str(done.exception)


def test_an_instance_has_null_for_a_missing_value() -> None:
    row = load()[:1].drop(columns=["customer", "left"])
    assert json.dumps(task.instance(row))
    assert task.instance(row)["monthly fee"] is None
    assert list(build(parse_parameters(task, {}))) == ["logistic C=1"]  # type: ignore[arg-type]
