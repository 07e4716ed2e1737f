"""Metrics of a model, each with the direction in which it is better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from slipway.errors import WrongParameter

Labels = NDArray[Any]
"""[rows]: INT64 classes, or FP64 quantities."""
Predictions = NDArray[np.floating]
"""Probabilities [rows, classes] of a classifier, values [rows] of a regressor."""


class Direction(StrEnum):
    """Whether larger or smaller is better."""

    MAX = "max"
    MIN = "min"

    def gain(self, candidate: float, other: float) -> float:
        """Return by how much the candidate is better; negative when it is worse."""
        return candidate - other if self is Direction.MAX else other - candidate


@dataclass(frozen=True)
class Metric:
    """A metric, computed by ``score(truth [rows], predictions)``."""

    name: str
    direction: Direction
    meaning: str
    score: Callable[[Labels, Predictions], float]
    of_labels: bool = False
    """True: it is computed from the predicted label alone."""
    ranks: bool = False
    """True: it is undefined for rows of a single class."""
    of_classes: bool | None = None
    """True: it is one of classes; False: of a quantity; None: of either."""
    binary: bool = False
    """True: it is one of two classes."""

    @property
    def perfect(self) -> float:
        """The best possible score: shares are at most 1, errors at least 0."""
        return 1.0 if self.direction is Direction.MAX else 0.0


def _hard(probabilities: Predictions) -> Labels:
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def _log_loss(truth: Labels, probabilities: Predictions) -> float:
    exact = probabilities.astype(np.float64)
    # FP32 rows add up to 1 only to seven digits, and scikit-learn warns of that.
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(truth, exact, labels=np.arange(exact.shape[1])))


def _auc(truth: Labels, probabilities: Predictions) -> float:
    """Return the area by the rank sum (Mann and Whitney 1947); NaN without both classes.

    scikit-learn's takes 250 times as long, and a promotion compares a thousand samples of the rows.
    """
    ranked = probabilities[:, 1]
    if not np.isfinite(ranked).all():
        raise ValueError("probabilities: a value is NaN or infinite")
    cases, others = ranked[truth == 1], np.sort(ranked[truth == 0])
    if not (len(cases) and len(others)):
        return float("nan")
    below, up_to = (np.searchsorted(others, cases, side) for side in ("left", "right"))
    return float((below.sum() + up_to.sum()) / (2 * len(cases) * len(others)))


AUC = Metric(
    "auc", Direction.MAX,
    "area under the ROC curve: probability that a case ranks above a non-case",
    _auc, ranks=True, of_classes=True, binary=True,
)  # fmt: skip
BRIER = Metric(
    "brier", Direction.MIN, "mean squared error of the probability (Brier 1950)",
    lambda truth, p: float(np.mean((p[:, 1] - truth) ** 2)), of_classes=True, binary=True,
)  # fmt: skip
ACCURACY = Metric(
    "accuracy", Direction.MAX, "share of rows whose most probable class is the true one",
    lambda truth, p: float(metrics.accuracy_score(truth, _hard(p))), of_labels=True,
    of_classes=True,
)  # fmt: skip
MACRO_F1 = Metric(
    "macro_f1", Direction.MAX, "F1, the mean over classes",
    lambda truth, p: float(metrics.f1_score(truth, _hard(p), average="macro", zero_division=0)),
    of_labels=True, of_classes=True,
)  # fmt: skip
LOG_LOSS = Metric(
    "log_loss", Direction.MIN, "mean negative log-likelihood, in nats", _log_loss, of_classes=True
)  # fmt: skip
MAE = Metric(
    "mae", Direction.MIN, "mean absolute error, in the unit of the output",
    lambda truth, values: float(np.mean(np.abs(values - truth))), of_classes=False,
)  # fmt: skip
RMSE = Metric(
    "rmse", Direction.MIN, "root of the mean squared error, in the unit of the output",
    lambda truth, values: float(np.sqrt(np.mean((values - truth) ** 2))), of_classes=False,
)  # fmt: skip
WAPE = Metric(
    "wape", Direction.MIN, "sum of the absolute errors as a share of the sum of the true values",
    lambda truth, values: float(np.abs(values - truth).sum() / np.abs(truth).sum()),
    of_classes=False,
)  # fmt: skip


def _correlation(truth: Labels, values: Predictions) -> float:
    if not (np.ptp(truth) and np.ptp(values)):
        return 0.0
    return float(np.corrcoef(truth, values)[0, 1])


CORRELATION = Metric(
    "correlation", Direction.MAX, "Pearson's, of prediction and truth; 0 for a constant",
    _correlation
)  # fmt: skip


def calibration_error(truth: Labels, probabilities: Predictions, bins: int = 10) -> float:
    """Return the expected calibration error of ``probabilities`` [rows, 2] for ``truth`` [rows].

    It is the mean distance between the probability of class 1 and the share of class 1 over
    ``bins`` equal groups of rows, ordered by probability (Naeini et al. 2015). It is no gate
    metric, because a constant prediction of the mean has none.
    """
    groups = np.array_split(np.argsort(probabilities[:, 1], kind="stable"), bins)
    apart = [
        abs(probabilities[rows, 1].mean() - truth[rows].mean()) * len(rows)
        for rows in groups
        if len(rows)
    ]
    return float(np.sum(apart) / len(truth))


def named(metrics: Sequence[Metric], name: str | None, model: str) -> Metric:
    """Return the metric of a model with that name, the first when None. Raises WrongParameter."""
    for metric in metrics:
        if name in (None, metric.name):
            return metric
    known = ", ".join(metric.name for metric in metrics)
    raise WrongParameter(f"metric: {name!r} is unknown; {model} has {known}")


def scores(chosen: Sequence[Metric], truth: Labels, predictions: Predictions) -> dict[str, float]:
    """Return the score of each metric by name."""
    return {metric.name: metric.score(truth, predictions) for metric in chosen}
