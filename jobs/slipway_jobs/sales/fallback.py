"""A regressor for pairs with known sales, and means of others for pairs without."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from slipway.training.dataset import Floats
from threadpoolctl import threadpool_limits

from slipway_jobs.sales.features import COLUMNS

MODEL = "model"
NOTHING = "nothing known"
MEANS = ("product_mean", "store_mean", "overall_mean")
"""Features that replace the prediction; the first known one is used."""
SOURCES = (MODEL, *(name.replace("_", " ") for name in MEANS), NOTHING)
"""Values of the output ``source``: the origin of a prediction."""
KNOWN = "known_28"

_NAMES = [column.name for column in COLUMNS]


class WithFallback(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts by ``regressor`` where a pair has sales in its window, otherwise by a mean, or 0.

    Features are [rows, columns] FP32; predictions [rows] are never below 0.
    """

    def __init__(self, regressor: Any = None) -> None:
        self.regressor = regressor

    def fit(self, x: Floats, y: NDArray[np.float64]) -> Self:
        known = x[:, _NAMES.index(KNOWN)] > 0
        # On a busy processor, waiting OpenMP threads are many times slower than a single thread.
        with threadpool_limits(1):
            self.regressor_ = clone(self.regressor).fit(x[known], y[known])
        return self

    def predict(self, x: Floats) -> NDArray[np.float64]:
        with threadpool_limits(1):
            model = np.maximum(self.regressor_.predict(x), 0)
        columns = [model, *(x[:, _NAMES.index(name)] for name in MEANS), np.zeros(len(x))]
        return np.asarray(
            np.stack(columns, axis=1)[np.arange(len(x)), self.source(x)], dtype=np.float64
        )

    def source(self, x: Floats) -> NDArray[np.int64]:
        """Return the positions in ``SOURCES`` [rows] INT64."""
        known = [
            x[:, _NAMES.index(KNOWN)] > 0,
            *(~np.isnan(x[:, _NAMES.index(name)]) for name in MEANS),
            np.ones(len(x), bool),
        ]
        return np.asarray(np.argmax(np.stack(known, axis=1), axis=1), dtype=np.int64)
