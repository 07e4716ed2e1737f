"""A regressor for pairs that are known, and a mean that says what it is for those that are not."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from threadpoolctl import threadpool_limits

from slipway_jobs.data.dataset import Floats
from slipway_jobs.sales.features import COLUMNS

MODEL = "model"
NOTHING = "nothing known"
MEANS = ("product_mean", "store_mean", "overall_mean")
"""Features that stand in, the first that is there."""
SOURCES = (MODEL, *(name.replace("_", " ") for name in MEANS), NOTHING)
"""What an answer says of how it was made."""
KNOWN = "known_28"

_NAMES = [column.name for column in COLUMNS]


class WithFallback(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """``regressor`` where any of a pair's last days is known; else a mean of others, or 0. Never
    below 0.
    """

    def __init__(self, regressor: Any = None) -> None:
        self.regressor = regressor

    def fit(self, x: Floats, y: NDArray[np.float64]) -> Self:
        known = x[:, _NAMES.index(KNOWN)] > 0
        # Threads of OpenMP that wait for a busy processor are many times slower than none.
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
        """[rows]: positions in ``SOURCES``."""
        there = [
            x[:, _NAMES.index(KNOWN)] > 0,
            *(~np.isnan(x[:, _NAMES.index(name)]) for name in MEANS),
            np.ones(len(x), bool),
        ]
        return np.asarray(np.argmax(np.stack(there, axis=1), axis=1), dtype=np.int64)
