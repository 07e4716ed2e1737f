"""The fit of a task's estimators: choice by cross-validation, and the check that no rows leak."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from sklearn.base import clone

from slipway.errors import Leakage, SlipwayError, WrongParameter
from slipway.training.baseline import baseline_scores, strongest
from slipway.training.dataset import Table
from slipway.training.metric import Predictions
from slipway.training.split import Split
from slipway.training.target import Classes
from slipway.training.task import Estimator, Parameters, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a training, by metric name."""

    chosen: str
    """The candidate that cross-validation chose."""
    test: Mapping[str, float]
    """On the held-out rows."""
    baselines: Mapping[str, Mapping[str, float]]
    """Of each baseline by its name, on the held-out rows."""
    folds: Mapping[str, Sequence[float]]
    """Of the chosen candidate, fold by fold."""

    @property
    def cv_mean(self) -> dict[str, float]:
        return {name: float(np.mean(found)) for name, found in self.folds.items()}

    @property
    def cv_spread(self) -> dict[str, float]:
        """Return the standard deviation over the folds."""
        return {name: float(np.std(found, ddof=1)) for name, found in self.folds.items()}

    def strongest_baseline(self, task: Task) -> dict[str, float]:
        """Return the best score of each metric that any baseline has."""
        return strongest(task.metrics, self.baselines)

    def logged(self, task: Task) -> dict[str, float]:
        """Return the metrics of the run, such as ``test_auc``."""
        parts: dict[str, Mapping[str, float]] = {
            "test": self.test,
            "baseline": self.strongest_baseline(task),
            "cv_mean": self.cv_mean,
            "cv_std": self.cv_spread,
        }
        for name, found in self.baselines.items():
            parts[f"baseline_{name.replace(' ', '_')}"] = found
        return {
            f"{part}_{name}": value
            for part, found in parts.items()
            for name, value in found.items()
        }


def fit_best(task: Task, parameters: Parameters, split: Split) -> tuple[Estimator, Scores]:
    """Choose by cross-validation, fit on all training rows, score the held-out rows once.

    Raises Leakage, WrongParameter.
    """
    chosen, estimator, folds = choose(task, parameters, split.train)
    logger.info("fitting %s on %d rows", chosen, len(split.train))
    estimator = fit(estimator, split.train)
    check_fit(task, estimator, split.train)
    scores = Scores(
        chosen=chosen,
        test=score(task, estimator, split.test),
        baselines=baseline_scores(task.metrics, task.target.baselines, split.train, split.test),
        folds=folds,
    )
    return estimator, scores


def choose(
    task: Task, parameters: Parameters, train: Table
) -> tuple[str, Estimator, dict[str, list[float]]]:
    """Return the best candidate by the mean of the selection metric, and its fold scores."""
    best: tuple[str, Estimator, dict[str, list[float]]] | None = None
    for name, estimator in task.estimators(parameters).items():
        folds = cross_validate(task, estimator, train, parameters)
        mean = float(np.mean(folds[task.selection.name]))
        logger.info(
            "candidate %s: %s %.4f over %d folds", name, task.selection.name, mean, parameters.folds
        )
        if (
            best is None
            or task.selection.direction.gain(mean, float(np.mean(best[2][task.selection.name]))) > 0
        ):
            best = (name, estimator, folds)
    if best is None:
        raise ValueError(f"{task.name} declares no estimators")
    return best


def cross_validate(
    task: Task, estimator: Estimator, train: Table, parameters: Parameters
) -> dict[str, list[float]]:
    """Return the scores of each fold by metric."""
    found = list(fold_scores(task, estimator, train, parameters))
    return {metric.name: [each[metric.name] for each in found] for metric in task.metrics}


def fold_scores(
    task: Task, estimator: Estimator, train: Table, parameters: Parameters, first: int = 0
) -> Iterator[dict[str, float]]:
    """Yield the scores by metric, fold by fold from the ``first``.

    Every fold fits a clone of the estimator, including imputation and scaling.
    """
    folds = task.split.folds(train, task.target, parameters.folds, parameters.seed)
    for fitting, scoring in islice(folds, first, None):
        model = fit(estimator, train.take(fitting))
        yield score(task, model, train.take(scoring))


def fit(estimator: Estimator, train: Table) -> Estimator:
    """Return a clone that is fitted on the rows. Raises WrongParameter for any error of it."""
    with _errors(estimator, "fitted on", train):
        fitted: Estimator = clone(estimator).fit(train.features, train.truth)
        return fitted


def score(task: Task, estimator: Estimator, rows: Table) -> dict[str, float]:
    """Return the score of each metric by name; a metric of labels is that of ``predict``.

    Raises WrongParameter for a metric without a value.
    """
    found: dict[str, float] = {}
    classes = isinstance(task.target, Classes)
    hard: Predictions | None = None
    soft: Predictions | None = None
    for metric in task.metrics:
        if metric.ranks and len(np.unique(rows.labels)) < 2:
            raise WrongParameter(
                f"metrics: {metric.name} has no value on {len(rows)} rows of one class; set fewer "
                "folds, or give more rows of the rarer class"
            )
        if classes and not metric.of_labels and not hasattr(estimator, "predict_proba"):
            raise WrongParameter(
                f"metrics: {metric.name} needs probabilities, and {_name(estimator)} has no "
                "predict_proba; wrap it in CalibratedClassifierCV, or give metrics of labels: "
                "ACCURACY, MACRO_F1"
            )
        with _errors(estimator, "applied to", rows):
            if metric.of_labels and hard is None:
                hard = task.target.predict_labels(estimator, rows.features, rows.classes)
            if not metric.of_labels and soft is None:
                soft = task.target.predict(estimator, rows.features, rows.classes)
        predictions = hard if metric.of_labels else soft
        found[metric.name] = metric.score(rows.labels, predictions)  # type: ignore[arg-type]  # not None here
    return found


def _name(estimator: Any) -> str:
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return type(last).__name__


@contextmanager
def _errors(estimator: Any, what: str, rows: Table) -> Iterator[None]:
    try:
        yield
    except (SlipwayError, MemoryError):
        raise
    except Exception as error:  # estimators are third-party code
        remedy = ""
        if any("xgboost" in type(part).__module__ for part in _parts(estimator)) and rows.classes:
            remedy = (
                "; XGBoost takes the classes 0, 1, … only: encode the labels as these numbers in "
                "the function data"
            )
        raise WrongParameter(
            f"estimators: {_name(estimator)} cannot be {what} {len(rows)} rows: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{remedy}"
        ) from error


def _parts(estimator: Any) -> list[Any]:
    steps = getattr(estimator, "steps", ())
    return [estimator, *(step for _, step in steps), getattr(estimator, "estimator", None)]


def check_fit(task: Task, estimator: Estimator, train: Table) -> None:
    """Raise Leakage unless a second fit on the training rows alone has the same predictions.

    If a part of the estimator (an imputer, a scaler) had seen other rows, the predictions would
    differ.
    """
    again = fit(estimator, train)
    first, second = (
        task.target.predict(each, train.features, train.classes) for each in (estimator, again)
    )
    difference = np.abs(first - second).max()
    if not difference <= 1e-9:  # nor NaN
        raise Leakage(
            "a second fit on the training rows alone has other predictions (difference "
            f"{difference:.2g}); if the estimator is random, give it random_state=parameters.seed"
        )
