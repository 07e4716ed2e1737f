"""The Jobs of a task on a data frame, which is declared outside the platform."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from slipway.errors import WrongParameter
from slipway.registry.tracking import Tracking
from slipway.training.metric import ACCURACY
from slipway_contract.registry import CHAMPION
from slipway_jobs.__main__ import main
from slipway_jobs.promotion.best import best_version
from slipway_jobs.promotion.evaluation import evaluate
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings
from slipway_jobs.simulation.simulation import Plan, Shift, shifted_frame, simulate
from slipway_jobs.training.training import load_parts
from slipway_jobs.tuning.tuning import SweepRequest, tune

from tests.jobs.conftest import Trainer
from tests.jobs.test_simulation import gateway
from tests.sdk.own_task import ChurnParameters, task


@pytest.fixture(scope="module")
def first(trained: Trainer) -> dict[str, Any]:
    return trained(task, C="0.5")


def test_a_version_passes_the_gate_on_its_evaluation_table(
    first: dict[str, Any], settings: Settings, tracking: Tracking
) -> None:
    version = tracking.version(task.name, first["version"])
    result = promote(task, version, PromotionRequest(CHAMPION), settings, tracking)
    assert (result["state"], result["metric"]) == ("promoted", "auc")
    found = evaluate(task, version, settings, tracking)
    assert found["metrics"].keys() == {"auc", "accuracy"}
    assert found["metrics"]["auc"] == pytest.approx(first["metrics"]["auc"], abs=1e-6)


def test_an_equal_version_is_not_distinguishable(
    first: dict[str, Any], trained: Trainer, settings: Settings, tracking: Tracking
) -> None:
    tracking.point(task.name, "live", tracking.version(task.name, first["version"]))
    again = tracking.version(task.name, trained(task, C="0.5")["version"])
    request = PromotionRequest("live", metric="accuracy")
    result = promote(task, again, request, settings, tracking)
    assert (result["state"], result["gain"]) == ("undecided", 0)


def test_the_best_version_is_chosen_by_a_metric_of_the_task(
    first: dict[str, Any], settings: Settings, tracking: Tracking
) -> None:
    own = replace(task, metrics=(*task.metrics, replace(ACCURACY, name="hit_rate")))
    found = best_version(own, task.name, "hit_rate", None, CHAMPION, settings, tracking)
    assert found.metric == "hit_rate"
    assert first["version"] in found.scores


@pytest.mark.slow
def test_a_sweep_trains_the_best_version_also_without_a_database(
    settings: Settings, postgres: str, tracking: Tracking
) -> None:
    own = settings.model_copy(update={"database_url": postgres})
    result = tune(task, SweepRequest({"folds": "2"}, 3, "own-churn"), own, tracking)
    assert (result["state"], result["trials"]["complete"] > 0) == ("tuned", True)
    assert result["version"]
    alone = tune(task, SweepRequest({"folds": "2"}, 3), settings, tracking)
    assert alone["state"] == "tuned"
    assert (alone["trials"], alone["best"]) == (result["trials"], result["best"])
    with pytest.raises(WrongParameter, match="SLIPWAY_DATABASE_URL: is not set, and sweep mine"):
        tune(task, SweepRequest({}, 3, "mine"), settings, tracking)


def test_held_out_rows_of_a_data_frame_are_simulated() -> None:
    settings = Settings(MLFLOW_TRACKING_URI="http://127.0.0.1:1", fetch=False)
    _, split = load_parts(task, ChurnParameters(), settings)
    with gateway(settings, rows=3) as (server, own):
        result = simulate(task, Plan(rate=6000, label_after=0.05), own, server.enough)
    assert result["predicted"] == len(server.instances) == 3
    assert server.instances[0] == json.loads(json.dumps(task.instance(split.test.features[:1])))
    assert list(server.labels.values()) == split.test.truth[:3].tolist()


def test_a_numeric_column_can_be_shifted() -> None:
    settings = Settings(MLFLOW_TRACKING_URI="http://127.0.0.1:1", fetch=False)
    _, split = load_parts(task, ChurnParameters(), settings)
    before = split.test.features
    shifts = [Shift("age", 2.4, spread=False), Shift("monthly fee", 1, spread=True)]
    after = shifted_frame(split.test, shifts)
    assert (after["age"] - before["age"] == 2).all()
    assert after["age"].dtype == before["age"].dtype
    moved = (after["monthly fee"] - before["monthly fee"]).dropna()
    np.testing.assert_allclose(moved, before["monthly fee"].std())
    with pytest.raises(WrongParameter, match="--shift city: is not a numeric input"):
        shifted_frame(split.test, [Shift("city", 1, spread=False)])


def test_the_job_trains_a_task_that_is_named_by_its_module(
    mlflow_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_url)
    assert main(["train", "tests.sdk.own_task:task", "--set", "C=3"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"] == "own-churn"
