"""Versions without a task are scored and promoted on the evaluation table that was logged."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import slipway
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC
from slipway.errors import NoSuchVersion, Refused, WrongDigest, WrongParameter
from slipway.packaging.evaluation import FILE
from slipway.registry.evaluations import EXPERIMENT, read_table
from slipway.registry.tracking import Tracking, Version
from slipway_contract.registry import ArtifactFormat, Tag
from slipway_jobs.promotion.best import Ranking, best_version
from slipway_jobs.promotion.evaluation import Incomparable, evaluate
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings

from tests.sdk.churn import customers, pipeline
from tests.support.mlflow_address import user_of

pytestmark = pytest.mark.slow


class Gate:
    """Promotions of versions that have no task."""

    def __init__(self, settings: Settings, tracking: Tracking) -> None:
        self.settings, self.tracking = settings, tracking

    def log(self, model: Any, name: str, rows: pd.DataFrame, truth: Any) -> Version:
        return slipway.log_model(model, name, evaluation=(rows, truth))

    def promote(self, version: Version, **request: Any) -> dict[str, Any]:
        given = PromotionRequest(**{"alias": "champion", **request})
        return promote(None, version, given, self.settings, self.tracking)

    def best(self, name: str, by: str) -> Ranking:
        return best_version(None, name, by, None, "champion", self.settings, self.tracking)


@pytest.fixture(scope="module")
def gate(settings: Settings, tracking: Tracking, mlflow_url: str) -> Any:
    with user_of(mlflow_url):
        yield Gate(settings, tracking)


TABLE, LEFT = customers(700)
TRAIN, TEST = TABLE[:300], TABLE[300:]
NUMBERS = pd.DataFrame({"a": np.arange(60.0), "b": np.tile([0.0, 5.0], 30)})


def test_a_pipeline_over_a_data_frame_is_promoted_by_its_table(gate: Gate) -> None:
    constant = make_pipeline(pipeline()[:-1], DummyClassifier(strategy="prior"))
    first = gate.log(constant.fit(TRAIN, LEFT[:300]), "churn-gate", TEST, LEFT[300:])
    assert gate.promote(first)["state"] == "undecided"
    assert gate.promote(first, min_gain=-0.1)["state"] == "promoted"

    second = gate.log(pipeline().fit(TRAIN, LEFT[:300]), "churn-gate", TEST, LEFT[300:])
    assert first.tags[Tag.FORMAT] == ArtifactFormat.SKOPS
    assert second.tags[Tag.FORMAT] == ArtifactFormat.ONNX
    result = gate.promote(second, dry_run=True)
    assert (result["state"], result["decision"]) == ("passed", "better")
    assert (result["metric"], result["evaluation"]) == (
        "auc",
        second.tags[Tag.EVALUATION_DIGEST],
    )
    assert 0.15 < result["low"] < result["gain"] < result["high"]
    assert "of churn-gate/1 (champion) on the same 400 held-out rows" in result["reason"]
    assert gate.promote(second)["state"] == "promoted"
    assert gate.promote(first, metric="log_loss")["state"] == "refused"

    scored = evaluate(None, second, gate.settings, gate.tracking)
    assert scored["metrics"]["auc"] == pytest.approx(result["candidate"])
    assert scored["baseline"]["auc"] == 0.5
    with pytest.raises(WrongParameter, match="'rmse' is unknown; churn-gate has auc, log_loss"):
        gate.promote(first, metric="rmse")


def test_a_version_without_probabilities_is_compared_by_its_labels(gate: Gate) -> None:
    words = pd.DataFrame({"colour": np.tile(["red", "blue"], 30)})
    likes = np.tile(["yes", "no"], 30)
    served = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(words, likes)
    first = gate.log(served, "colours", words, likes)
    assert gate.promote(first)["state"] == "promoted"
    vector = make_pipeline(OneHotEncoder(), LinearSVC()).fit(words, likes)
    second = gate.log(vector, "colours", words, likes)
    with pytest.raises(WrongParameter, match="metric: 'auc' is unknown; colours has accuracy"):
        gate.promote(second, metric="auc")
    assert gate.promote(second, metric="accuracy")["decision"] == "not distinguishable"


def test_a_quantity_is_compared_with_its_mean_and_with_the_live_version(gate: Gate) -> None:
    truth = NUMBERS["a"] * 2 + NUMBERS["b"]
    rough = LinearRegression().fit(NUMBERS[["a"]], truth)
    exact = LinearRegression().fit(NUMBERS[["a", "b"]], truth)
    first = gate.log(rough, "prices", NUMBERS[["a"]], truth)
    result = gate.promote(first)
    assert (result["state"], result["metric"]) == ("promoted", "mae")
    assert "of the baseline (constant)" in result["reason"]
    # The live version reads a column less than the table of the candidate has.
    second = gate.log(exact, "prices", NUMBERS, truth)
    assert gate.promote(second)["state"] == "promoted"


def test_the_best_version_by_a_metric_is_one_with_the_same_rows(gate: Gate) -> None:
    truth = NUMBERS["a"] * 2 + NUMBERS["b"]
    exact = LinearRegression().fit(NUMBERS[["a", "b"]], truth)
    other_rows = gate.log(exact, "ranked", NUMBERS[:30], truth[:30])
    unreadable = gate.log(
        LinearRegression().fit(NUMBERS[["b"]], truth), "ranked", NUMBERS[["b"]], truth
    )
    best = gate.log(exact, "ranked", NUMBERS, truth)
    newest = gate.log(
        LinearRegression().fit(NUMBERS.assign(b=0.0), truth), "ranked", NUMBERS, truth
    )
    found = gate.best("ranked", "rmse")
    assert found.best.version == best.version
    assert list(found.scores) == [newest.version, best.version]
    assert {other_rows.version, unreadable.version}.isdisjoint({*found.scores, *found.skipped})
    promoted = gate.promote(found.best, chosen_of=len(found.scores))
    assert promoted["state"] == "promoted"
    gate.log(exact, "ranked", NUMBERS, truth)
    assert gate.best("ranked", "rmse").best.version == best.version, "the live one of equals"

    with pytest.raises(WrongParameter, match="metric: 'accuracy' is unknown; ranked has mae, rmse"):
        gate.best("ranked", "accuracy")
    with pytest.raises(NoSuchVersion, match="absent: the registry has no version of it"):
        gate.best("absent", "rmse")


def test_versions_that_cannot_be_compared_are_refused_with_the_reason(gate: Gate) -> None:
    one = gate.log(LinearRegression().fit(NUMBERS[["a"]], NUMBERS["b"]), "apart", NUMBERS[["a"]],
                   NUMBERS["b"])  # fmt: skip
    gate.promote(one, rollback=True, reason="first")
    other = gate.log(LinearRegression().fit(NUMBERS[["b"]], NUMBERS["a"]), "apart", NUMBERS[["b"]],
                     NUMBERS["a"])  # fmt: skip
    with pytest.raises(Incomparable) as refused:
        gate.promote(other)
    assert str(refused.value) == (
        "apart/1 cannot be scored on the evaluation table of apart/2: the evaluation table has no "
        "column 'a'; apart/2 cannot be scored on the evaluation table of apart/1: the evaluation "
        "table has no column 'b'"
    )
    without = slipway.log_model(
        LinearRegression().fit(NUMBERS[["a"]], NUMBERS["b"]), "no-table", example=NUMBERS[["a"]]
    )
    with pytest.raises(NoSuchVersion, match=r"no-table/1: has no evaluation table and no task"):
        gate.promote(without)


def test_a_late_job_does_not_move_an_alias_that_was_moved_meanwhile(gate: Gate) -> None:
    first, second, third = (
        gate.log(LinearRegression().fit(NUMBERS[["a"]], NUMBERS["b"]), "late", NUMBERS[["a"]],
                 NUMBERS["b"])
        for _ in range(3)
    )  # fmt: skip
    rollback = {"rollback": True, "reason": "wrong scores"}
    gate.promote(third, **rollback)
    with pytest.raises(Refused, match="champion points to version 3 of late, not to 2, so nothing"):
        gate.promote(first, moved_from=second.version, **rollback)
    assert gate.promote(first, moved_from=third.version, **rollback)["state"] == "promoted"


def test_another_content_of_a_stored_table_is_refused(gate: Gate, tmp_path: Path) -> None:
    version = gate.log(
        LinearRegression().fit(NUMBERS[["a"]], NUMBERS["b"]), "changed", NUMBERS[["a"]],
        NUMBERS["b"],
    )  # fmt: skip
    digest = version.tags[Tag.EVALUATION_DIGEST]
    content = read_table("changed", digest, gate.tracking)
    # Another model may have an equal table.
    tags = {"slipway.model": "changed", Tag.EVALUATION_DIGEST: digest}
    run = gate.tracking.finished_run(EXPERIMENT, tags)
    (tmp_path / FILE).write_bytes(content + b"x")
    mlflow.MlflowClient().log_artifact(run, str(tmp_path / FILE))
    with pytest.raises(WrongDigest, match=digest):
        gate.promote(version)


def test_a_live_version_that_cannot_answer_a_row_is_compared_on_its_own_table(gate: Gate) -> None:
    old = pd.DataFrame({"plan": np.tile(["basic", "gold"], 30)})
    newer = pd.DataFrame({"plan": np.tile(["basic", "silver"], 30)})
    both = pd.concat([old, newer], ignore_index=True)
    likes = np.tile(["no", "yes"], 60)
    encoder = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    strict = pd.CategoricalDtype(["basic", "gold"])
    first = gate.log(encoder.fit(old.astype(strict), likes[:60]), "plans", old.astype(strict),
                     likes[:60])  # fmt: skip
    assert gate.promote(first)["state"] == "promoted"
    wider = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    second = gate.log(wider.fit(both, likes), "plans", newer, likes[60:])
    result = gate.promote(second, min_gain=-0.01)
    assert (result["state"], result["evaluation"]) == (
        "promoted",
        first.tags[Tag.EVALUATION_DIGEST],
    )


def test_a_metric_of_probabilities_needs_them_in_both_versions(gate: Gate) -> None:
    words = pd.DataFrame({"colour": np.tile(["red", "blue"], 30)})
    likes = np.tile(["yes", "no"], 30)
    vector = make_pipeline(OneHotEncoder(), LinearSVC()).fit(words, likes)
    gate.promote(gate.log(vector, "hard", words, likes))
    soft = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(words, likes)
    second = gate.log(soft, "hard", words, likes)
    with pytest.raises(Incomparable, match="it has no probabilities, which log_loss needs"):
        gate.promote(second, metric="log_loss")
    assert gate.promote(second, metric="accuracy", min_gain=-0.01)["state"] == "promoted"
