"""Sweeps: their points, their workers, and their state after a worker is killed."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import TrialState
from slipway.errors import WrongParameter
from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_task
from slipway.training.metric import AUC, LOG_LOSS, Metric
from slipway.training.space import Range, sample, space_of
from slipway.training.task import Estimator, Task, parse_parameters
from slipway_contract.registry import Tag
from slipway_jobs.errors import SweepError
from slipway_jobs.settings import Settings
from slipway_jobs.tuning.sweep import CannotWin, Sweep, Trial, best, mean
from slipway_jobs.tuning.tuning import SweepRequest, tune

TRIALS, FOLDS = 10, 3
GIVEN = {"estimator": "logistic", "trees": "200", "folds": str(FOLDS), "dataset": "heart-synthetic"}
TOO_LARGE = 1.7
"""One of the ten values of C that seed 0 samples is larger."""


def fragile(name: str = "tuned-heart") -> Task:
    """Return the task of heart with candidates that fail for a large C."""
    task = declared_task("heart")

    def candidates(parameters: Any) -> Mapping[str, Estimator]:
        if parameters.C is not None and parameters.C > TOO_LARGE:
            raise ValueError(f"C={parameters.C} is unstable")
        return task.estimators(parameters)

    return replace(task, name=name, estimators=candidates)


KILLED = """
import os, signal, sys
from dataclasses import replace
from slipway_jobs.settings import Settings
from slipway.registry.tracking import Tracking
from slipway_jobs.tuning.tuning import SweepRequest, tune
from test_tuning import GIVEN, TRIALS, fragile

task, scored = fragile(), 0

def score(truth, predictions):
    global scored
    scored += 1
    if scored == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.selection.score(truth, predictions)

selection = replace(task.selection, score=score)
metrics = [selection if each.name == selection.name else each for each in task.metrics]
settings = Settings()
killed = replace(task, metrics=metrics, selection=selection)
tune(killed, SweepRequest(GIVEN, TRIALS, "killed"), settings,
Tracking(settings.mlflow_tracking_uri))
"""
"""A worker that is killed in the second fold of the sixth trial, after some pruned trials."""


@pytest.fixture(scope="module")
def own(settings: Settings, postgres: str) -> Settings:
    return settings.model_copy(update={"database_url": postgres})


@pytest.fixture(scope="module")
def client(mlflow_url: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_url, registry_uri=mlflow_url)


def work(name: str, settings: Settings) -> dict[str, Any]:
    return tune(
        fragile(),
        SweepRequest(GIVEN, TRIALS, name),
        settings,
        Tracking(settings.mlflow_tracking_uri),
    )


@pytest.fixture(scope="module")
def whole(own: Settings) -> dict[str, Any]:
    """Return the result of a sweep by one worker without interruption."""
    return work("whole", own)


def trials(settings: Settings, name: str) -> list[Trial]:
    assert settings.database_url
    sweep = Sweep(settings.database_url, name, LOG_LOSS, FOLDS)
    try:
        return sweep.trials()
    finally:
        sweep.close()


@pytest.fixture(scope="module")
def killed(own: Settings) -> list[Trial]:
    """Return the trials after a worker was killed."""
    assert own.database_url
    variables = {
        "MLFLOW_TRACKING_URI": own.mlflow_tracking_uri, "SLIPWAY_DATABASE_URL": own.database_url,
        "SLIPWAY_FETCH": "false",
        "SLIPWAY_GIT_REVISION": own.revision, "PYTHONPATH": str(Path(__file__).parent),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED], env={**os.environ, **variables}, check=False
    )
    assert done.returncode == -9
    return trials(own, "killed")


@pytest.fixture(scope="module")
def resumed(killed: list[Trial], own: Settings) -> list[dict[str, Any]]:
    """Return the results of two concurrent workers that resume the sweep."""
    assert killed
    with ThreadPoolExecutor(2) as both:
        return sorted(
            both.map(lambda _: work("killed", own), range(2)),
            key=lambda result: str(result["state"]),
        )


def runs(client: MlflowClient, sweep: str) -> list[Run]:
    experiment = client.get_experiment_by_name("tuning-tuned-heart")
    assert experiment
    return list(client.search_runs([experiment.experiment_id], f"tags.`slipway.sweep` = '{sweep}'"))


@pytest.mark.slow
def test_a_sweep_trains_a_version_with_the_best_parameters(
    whole: dict[str, Any], own: Settings, client: MlflowClient
) -> None:
    assert whole["state"] == "tuned"
    assert sum(whole["trials"].values()) == TRIALS
    complete = [each for each in trials(own, "whole") if each.state == "complete"]
    assert whole["best"]["log_loss"] == min(
        mean(one["log_loss"] for one in each.scores) for each in complete
    )
    version = client.get_model_version("tuned-heart", whole["version"])
    assert version.tags[Tag.SWEEP] == "whole"
    run = client.get_run(whole["runId"])
    assert run.data.tags[Tag.SWEEP] == "whole"
    assert float(run.data.params["C"]) == whole["best"]["parameters"]["C"]


def test_each_trial_is_a_child_run_and_none_scores_the_held_out_rows(
    whole: dict[str, Any], client: MlflowClient
) -> None:
    found = runs(client, whole["sweep"])
    (parent,) = [run for run in found if run.data.tags["slipway.sweep.part"] == "whole"]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["slipway.version"] == whole["version"]
    below = [run for run in found if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id}
    assert Counter(run.data.tags["slipway.sweep.state"] for run in below) == whole["trials"]
    assert not [name for run in found for name in run.data.metrics if name.startswith("test")]


def test_a_failed_trial_is_reported_and_the_others_continue(
    whole: dict[str, Any], client: MlflowClient
) -> None:
    ((number, reason),) = whole["failed"].items()
    assert "is unstable" in reason
    (run,) = [
        each
        for each in runs(client, "whole")
        if each.data.tags["slipway.sweep.part"] == f"trial {number}"
    ]
    assert (run.info.status, run.data.tags["slipway.sweep.reason"]) == ("FAILED", reason)


@pytest.mark.slow
def test_finished_trials_survive_a_killed_worker(killed: list[Trial]) -> None:
    assert len(killed) == TRIALS
    states = Counter(trial.state for trial in killed)
    assert states["running"] == 1
    assert states["waiting"] >= 1
    (half,) = [trial for trial in killed if trial.state == "running"]
    assert 0 < len(half.scores) < FOLDS


@pytest.mark.slow
def test_two_workers_finish_the_sweep_of_a_killed_one_without_lost_or_duplicate_trials(
    resumed: list[dict[str, Any]], killed: list[Trial], own: Settings, client: MlflowClient
) -> None:
    after = trials(own, "killed")
    assert [trial.number for trial in after] == list(range(TRIALS))
    assert all(trial.finished for trial in after)
    before = [trial for trial in killed if trial.finished]
    assert before == [
        trial for trial in after if trial.number in {each.number for each in before}
    ], "finished trials are unchanged"
    parts = Counter(run.data.tags["slipway.sweep.part"] for run in runs(client, "killed"))
    assert parts == {"whole": 1, **{f"trial {number}": 1 for number in range(TRIALS)}}
    assert [result["state"] for result in resumed] == ["left", "tuned"]
    assert (
        len(
            client.search_model_versions("name = 'tuned-heart' and tags.`slipway.sweep` = 'killed'")
        )
        == 1
    )


@pytest.mark.slow
def test_the_best_trial_is_independent_of_the_workers(
    whole: dict[str, Any], resumed: list[dict[str, Any]]
) -> None:
    assert resumed[-1]["best"] == whole["best"]
    assert resumed[-1]["metrics"] == whole["metrics"]
    assert resumed[-1]["failed"] == whole["failed"]


def test_a_finished_sweep_is_not_repeated(whole: dict[str, Any], own: Settings) -> None:
    again = work("whole", own)
    assert (again["state"], again["version"], again["best"]) == (
        "unchanged",
        whole["version"],
        whole["best"],
    )


@pytest.mark.parametrize(
    ("sweep_request", "reason"),
    [
        (SweepRequest(GIVEN, TRIALS + 1, "whole"), "whole was started with trials 10, not 11"),
        (
            SweepRequest({**GIVEN, "seed": "1"}, TRIALS, "whole"),
            "whole was started with parameters",
        ),
        (
            SweepRequest({**GIVEN, "C": "1"}, TRIALS),
            "--set fixes every parameter that a sweep of tuned-heart varies: estimator, C, trees",
        ),
        (SweepRequest(GIVEN, TRIALS, "Whole sweep"), "sweep: 'Whole sweep' is not a name"),
    ],
)
def test_invalid_requests_are_refused_by_name(
    whole: dict[str, Any], own: Settings, sweep_request: SweepRequest, reason: str
) -> None:
    assert whole
    with pytest.raises(WrongParameter) as refusal:
        tune(fragile(), sweep_request, own, Tracking(own.mlflow_tracking_uri))
    assert reason in str(refusal.value)


def test_a_sweep_without_a_successful_trial_reports_the_reason_and_trains_nothing(
    own: Settings, client: MlflowClient
) -> None:
    def broken(_: Any) -> Mapping[str, Estimator]:
        raise RuntimeError("no such solver")

    task = replace(declared_task("heart"), name="broken-heart", estimators=broken)
    with pytest.raises(
        SweepError,
        match=r"all 2 trials of sweep broken failed; the first: RuntimeError: no such solver",
    ):
        tune(task, SweepRequest(GIVEN, 2, "broken"), own, Tracking(own.mlflow_tracking_uri))
    assert not client.search_registered_models("name = 'broken-heart'")


def pruned_best(
    table: Sequence[Sequence[float]], order: Sequence[int], metric: Metric
) -> Trial | None:
    """Return the best trial of these fold scores, tried in that order with pruning."""
    study = optuna.create_study(direction="maximize" if metric is AUC else "minimize")
    pruner, done = CannotWin(metric, len(table[0])), []
    for number in order:
        state, folds = TrialState.COMPLETE, dict[int, float]()
        for fold, score in enumerate(table[number]):
            folds[fold] = score
            frozen = optuna.create_trial(
                state=TrialState.COMPLETE, value=score, intermediate_values=folds
            )
            if fold < len(table[number]) - 1 and pruner.prune(study, frozen):
                state = TrialState.PRUNED
                break
        study.add_trial(
            optuna.create_trial(state=state, value=mean(folds.values()), intermediate_values=folds)
        )
        scores = [{metric.name: score} for score in folds.values()]
        done.append(Trial(number, number, {}, state.name.lower(), scores, None))
    return best(sorted(done, key=lambda each: each.number), metric)


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), min_size=4, max_size=4),
        min_size=2,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
    st.sampled_from([AUC, LOG_LOSS]),
)
def test_pruning_never_changes_the_best_trial(
    table: list[list[float]], order: Any, metric: Metric
) -> None:
    whole = [
        Trial(n, n, {}, "complete", [{metric.name: score} for score in row], None)
        for n, row in enumerate(table)
    ]
    expected = best(whole, metric)
    found = pruned_best(table, order.sample(range(len(table)), len(table)), metric)
    assert expected
    assert found == expected


def test_a_trial_that_cannot_win_is_pruned() -> None:
    study = optuna.create_study()
    study.add_trial(
        optuna.create_trial(
            state=TrialState.COMPLETE, value=0.2, intermediate_values=dict.fromkeys(range(5), 0.2)
        )
    )
    prune = CannotWin(LOG_LOSS, 5).prune
    assert not prune(study, optuna.create_trial(value=0, intermediate_values={0: 0.5, 1: 0.5}))
    assert prune(study, optuna.create_trial(value=0, intermediate_values={0: 0.5, 1: 0.5, 2: 0.01}))


@pytest.mark.parametrize("name", ["heart", "digits", "quantity"])
def test_every_point_of_a_declared_space_is_one_valid_estimator(name: str) -> None:
    task = declared_task(name)
    for point in sample(space_of(task, {}), 3, 20):
        parameters = parse_parameters(task, {key: str(value) for key, value in point.items()})
        assert len(task.estimators(parameters)) == 1


def test_a_point_depends_on_seed_and_number_alone() -> None:
    space = {"C": Range(0.01, 10.0, log=True), "trees": Range(50, 400)}
    assert sample(space, 7, 20)[:5] == sample(space, 7, 5)
    assert sample(space, 8, 5) != sample(space, 7, 5)


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.booleans())
def test_a_value_is_within_its_range(share: float, log: bool, whole: bool) -> None:
    one = Range(2, 9, log=log) if whole else Range(0.02, 9.0, log=log)
    value = one.at(share)
    assert one.low <= float(value) <= one.high
    assert isinstance(value, int) == whole


def sizes(values: Callable[[float], Any]) -> Counter[Any]:
    return Counter(values(share / 6000) for share in range(6000))


@pytest.mark.slow
def test_integers_are_tried_equally_often() -> None:
    assert set(sizes(Range(3, 8).at).values()) <= set(range(995, 1006))
