"""A sweep: cross-validated trials on the training rows, then a training with the best parameters.

Any number of workers process it together, and each may be killed at any time
(docs/how-to/tuning.md).
"""

import logging
import math
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.errors import WrongParameter
from slipway.registry.tracking import Run, Tracking
from slipway.training.dataset import Table
from slipway.training.fitting import fold_scores
from slipway.training.space import sample, space_of
from slipway.training.task import Task, parse_parameters
from slipway_contract.registry import Tag

from slipway_jobs.errors import SweepError, TrialFailed
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import load_parts, train
from slipway_jobs.tuning.sweep import Sweep, Trial, best, mean

logger = logging.getLogger(__name__)

EXPERIMENT = "tuning"
"""Prefix of a model's experiment, ``tuning-heart``; a sweep has a run, each trial a child run."""

PART = "slipway.sweep.part"
"""Tag of a run: ``whole`` of a sweep, or ``trial 3``."""

STATE = "slipway.sweep.state"
"""Tag of a trial's run: its final state."""


@dataclass(frozen=True)
class SweepRequest:
    """The parameters of a sweep."""

    given: Mapping[str, str]
    """Parameters that are the same in all trials."""
    trials: int
    name: str | None = None
    """Name of the sweep; None uses the Job's name, otherwise a new one."""


@dataclass(frozen=True)
class Worker:
    """The inputs of every trial."""

    task: Task
    given: Mapping[str, str]
    folds: int
    train: Table
    """The training rows. The held-out rows are scored once, by the training at the end."""
    sweep: Sweep
    tracking: Tracking
    run: Run
    """The sweep's run."""


def tune(
    task: Task, request: SweepRequest, settings: Settings, tracking: Tracking
) -> dict[str, Any]:
    """Process trials of the sweep until none is left, then train with the best; return JSON.

    The last worker trains. A sweep without a name and a database is processed by this process
    alone. Raises WrongParameter, SweepError when no trial succeeded, and the errors of a training.
    """
    named = request.name or settings.sweep
    if named and settings.database_url is None:
        raise WrongParameter(
            f"SLIPWAY_DATABASE_URL: is not set, and sweep {named} can have several workers and be "
            "resumed; set it to the database of the gateway, or omit --sweep"
        )
    parameters, space = parse_parameters(task, request.given), space_of(task, request.given)
    name = sweep_name(named or f"{task.name}-{secrets.token_hex(4)}")
    if settings.database_url:
        logger.info("sweep %s; start further workers, or resume it, with --sweep %s", name, name)
    else:
        logger.info("sweep %s in this process alone, because SLIPWAY_DATABASE_URL is not set", name)
    loaded, split = load_parts(task, parameters, settings)
    definition = {
        "model": task.name, "parameters": dict(request.given), "trials": request.trials,
        "space": str(space),
        "dataset": loaded.entry.name, "digest": loaded.table.digest, "code": settings.revision,
    }  # fmt: skip
    sweep = Sweep(settings.database_url, name, task.selection, parameters.folds)
    try:
        with sweep.exclusive("start"):
            sweep.start(definition, space, sample(space, parameters.seed, request.trials))
            run = tracking.resumed(_experiment(task), name, {Tag.SWEEP: name, PART: "whole"})
        run.log(
            params={
                "trials": request.trials,
                **parameters.model_dump(exclude_none=True, exclude=set(space)),
            },
            tags=_tags(definition),
        )
        worker = Worker(task, request.given, parameters.folds, split.train, sweep, tracking, run)
        while trial := sweep.claim(settings.completion_index):
            _try(worker, trial)
        return _end(worker, settings)
    finally:
        sweep.close()


def sweep_name(text: str) -> str:
    """Return the name if it is valid for a Job. Raises WrongParameter."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", text):
        raise WrongParameter(
            f"sweep: {text!r} is not a name; use up to 63 of a-z, 0-9, '-' and '.'"
        )
    return text


def _experiment(task: Task) -> str:
    return f"{EXPERIMENT}-{task.name}"


def _tags(request: Mapping[str, Any]) -> dict[str, str]:
    return {
        Tag.DATASET: request["dataset"],
        Tag.DATASET_DIGEST: request["digest"],
        Tag.GIT_REVISION: request["code"],
    }


def _try(worker: Worker, trial: Trial) -> None:
    """Score a trial from its first unfinished fold, and store its final state."""
    sweep, metric = worker.sweep, worker.task.selection
    tags = {Tag.SWEEP: sweep.name, PART: f"trial {trial.number}"}
    child = worker.tracking.resumed(
        _experiment(worker.task), f"{sweep.name} {trial.number}", tags, worker.run
    )
    child.log(params=trial.parameters)
    try:
        with worker.tracking.ended(child):
            scores = _score(worker, trial, child)
            state = "complete" if len(scores) == worker.folds else "pruned"
            means = {
                f"cv_mean_{each.name}": mean(one[each.name] for one in scores)
                for each in worker.task.metrics
            }
            child.log(metrics=means, tags={STATE: state})
    except TrialFailed as error:
        logger.warning("trial %d of sweep %s failed: %s", trial.number, sweep.name, error)
        child.log(tags={STATE: "fail", "slipway.sweep.reason": str(error)[:5000]})
        sweep.finish(trial, "fail", reason=str(error))
        return
    logger.info(
        "trial %d %s: %s %.4f", trial.number, state, metric.name, means[f"cv_mean_{metric.name}"]
    )
    sweep.finish(trial, state, means[f"cv_mean_{metric.name}"] if state == "complete" else None)


def _score(worker: Worker, trial: Trial, child: Run) -> list[Mapping[str, float]]:
    """Return the scores of all folds, or of fewer when the trial is pruned. Raises TrialFailed."""
    scores = list(trial.scores)
    for found in _folds(worker, trial):
        if bad := [name for name, value in found.items() if not math.isfinite(value)]:
            raise TrialFailed(f"fold {len(scores)}: {', '.join(bad)} is not a number")
        child.log(
            metrics={f"fold_{name}": value for name, value in found.items()}, step=len(scores)
        )
        scores.append(found)
        if not worker.sweep.score(trial, len(scores) - 1, found):
            break
    return scores


def _folds(worker: Worker, trial: Trial) -> Iterator[dict[str, float]]:
    """Yield the scores of the remaining folds; raise TrialFailed for any error of an estimator.

    Invalid parameters of one trial must not end the sweep.
    """
    try:
        parameters = parse_parameters(worker.task, _with(worker.given, trial))
        (estimator,) = worker.task.estimators(parameters).values()
        yield from fold_scores(
            worker.task, estimator, worker.train, parameters, first=len(trial.scores)
        )
    except Exception as error:  # estimators are third-party code
        raise TrialFailed(f"{type(error).__name__}: {error}") from error


def _with(given: Mapping[str, str], trial: Trial) -> dict[str, str]:
    return {**given, **{name: str(value) for name, value in trial.parameters.items()}}


def _end(worker: Worker, settings: Settings) -> dict[str, Any]:
    """Train with the best parameters when all trials are finished and no other worker trains."""
    task, sweep, tracking = worker.task, worker.sweep, worker.tracking
    trials = sweep.trials()
    result: dict[str, Any] = {
        "model": task.name,
        "sweep": sweep.name,
        "trials": dict(Counter(trial.state for trial in trials)),
    }
    if not all(trial.finished for trial in trials) or not sweep.lock("training"):
        return {"state": "left", **result}
    result["failed"] = {trial.number: trial.reason for trial in trials if trial.state == "fail"}
    with tracking.ended(worker.run):
        winner = best(trials, task.selection)
        if winner is None:
            raise SweepError(
                f"all {len(trials)} trials of sweep {sweep.name} failed; the first: "
                f"{trials[0].reason}"
            )
        score = mean(each[task.selection.name] for each in winner.scores)
        result["best"] = {
            "trial": winner.number,
            "parameters": winner.parameters,
            task.selection.name: score,
        }
        worker.run.log(
            params={f"best_{name}": value for name, value in winner.parameters.items()},
            metrics={f"best_cv_mean_{task.selection.name}": score},
            tags={"slipway.sweep.best": str(winner.number)},
        )
        if known := tracking.tagged(task.name, {Tag.SWEEP: sweep.name}):
            return {
                "state": "unchanged",
                **result,
                "version": known.version,
                "digest": known.digest,
            }
        parameters = parse_parameters(task, _with(worker.given, winner))
        trained = train(task, parameters, settings, tracking, {Tag.SWEEP: sweep.name})
        worker.run.log(tags={"slipway.version": trained["version"]})
    return {**result, **trained, "state": "tuned"}
