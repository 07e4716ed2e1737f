"""The fit of a task's estimators: choice by cross-validation, and the check that no rows leak."""

import logging
from collections.abc import Iterator
from itertools import islice

import numpy as np
from sklearn.base import clone

from slipway.errors import Leakage
from slipway.training.dataset import Table
from slipway.training.metric import scores
from slipway.training.task import Estimator, Parameters, Task

logger = logging.getLogger(__name__)


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
        part, rest = train.take(fitting), train.take(scoring)
        model = clone(estimator).fit(part.features, part.labels)
        yield scores(task.metrics, rest.labels, task.target.predict(model, rest.features))


def check_fit(task: Task, estimator: Estimator, train: Table) -> None:
    """Raise Leakage unless a second fit on the training rows alone has the same predictions.

    If a part of the estimator (an imputer, a scaler) had seen other rows, the predictions would
    differ.
    """
    again = clone(estimator).fit(train.features, train.labels)
    first, second = (task.target.predict(each, train.features) for each in (estimator, again))
    difference = np.abs(first - second).max()
    if difference > 1e-9:
        raise Leakage(
            "a second fit on the training rows alone has other predictions (difference "
            f"{difference:.2g}); if the estimator is random, give it random_state=parameters.seed"
        )
