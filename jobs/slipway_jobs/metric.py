"""Scores of a classifier, each with the direction in which it is better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from slipway_jobs.dataset import Labels

Probabilities = NDArray[np.floating]


class Direction(StrEnum):
    """Whether larger or smaller is better."""

    MAX = "max"
    MIN = "min"

    def gain(self, candidate: float, other: float) -> float:
        """By how much the candidate is better; negative when it is worse."""
        return candidate - other if self is Direction.MAX else other - candidate


@dataclass(frozen=True)
class Metric:
    """``score(truth [rows], probabilities [rows, classes])``."""

    name: str
    direction: Direction
    meaning: str
    score: Callable[[Labels, Probabilities], float]


def _hard(probabilities: Probabilities) -> Labels:
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def _log_loss(truth: Labels, probabilities: Probabilities) -> float:
    exact = probabilities.astype(np.float64)
    # FP32 rows add up to 1 only to seven digits, which scikit-learn would warn of.
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(truth, exact, labels=np.arange(exact.shape[1])))


AUC = Metric(
    "auc", Direction.MAX, "area under the ROC curve: how often a case ranks above a non-case",
    lambda truth, p: float(metrics.roc_auc_score(truth, p[:, 1])),
)  # fmt: skip
BRIER = Metric(
    "brier", Direction.MIN, "mean squared error of the probability (Brier 1950)",
    lambda truth, p: float(np.mean((p[:, 1] - truth) ** 2)),
)  # fmt: skip
ACCURACY = Metric(
    "accuracy", Direction.MAX, "share of right labels",
    lambda truth, p: float(metrics.accuracy_score(truth, _hard(p))),
)  # fmt: skip
MACRO_F1 = Metric(
    "macro_f1", Direction.MAX, "F1, the mean over classes",
    lambda truth, p: float(metrics.f1_score(truth, _hard(p), average="macro", zero_division=0)),
)  # fmt: skip
LOG_LOSS = Metric("log_loss", Direction.MIN, "mean negative log-likelihood, in nats", _log_loss)


def scores(chosen: Sequence[Metric], truth: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Each metric by name."""
    return {metric.name: metric.score(truth, probabilities) for metric in chosen}


def prior(train: Labels, rows: int, classes: int) -> Probabilities:
    """The baseline: every row gets the classes' shares in the training data. Its label is the majority class."""
    shares = np.bincount(train, minlength=classes) / len(train)
    return np.tile(shares, (rows, 1))
