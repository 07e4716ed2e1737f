"""The model ``quantity``: units that a store sells of a product on a day."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingRegressor
from slipway.training.dataset import Table
from slipway.training.metric import MAE, WAPE, Predictions
from slipway.training.space import Range
from slipway.training.split import ByTime
from slipway.training.target import Quantity
from slipway.training.task import Estimator, Parameters, Task
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.sales.fallback import SOURCES, WithFallback
from slipway_jobs.sales.features import COLUMNS, REACH
from slipway_jobs.sales.graph import export
from slipway_jobs.sales.history import BLOCK

_LOSSES = {"median": "absolute_error", "mean": "squared_error"}
_LAST = [column.name for column in COLUMNS].index("last")


class QuantityParameters(Parameters):
    """Parameters of the boosted trees; cross-validation chooses the number of leaves."""

    folds: int = Field(default=3, ge=2, le=12)
    """blocks of four weeks before the held-out ones, each forecast from all days before it"""

    estimate: Literal["median", "mean"] = "median"
    """the estimate: the median has the least absolute error, the mean has the right total"""

    trees: int = Field(default=60, ge=1, le=2000)
    """trees of the boosting"""

    learning_rate: Annotated[float, Range(0.03, 0.3, log=True)] = Field(default=0.1, gt=0, le=1)
    """learning rate of the boosting"""

    leaves: Annotated[int | None, Range(4, 64, log=True)] = Field(default=None, ge=2, le=255)
    """leaves of each tree; chosen by cross-validation by default"""


def candidates(parameters: QuantityParameters) -> Mapping[str, Estimator]:
    """Return the boosting with small and with large trees."""
    return {
        f"boosting leaves={leaves}": WithFallback(
            HistGradientBoostingRegressor(
                loss=_LOSSES[parameters.estimate],
                learning_rate=parameters.learning_rate,
                max_iter=parameters.trees,
                max_leaf_nodes=leaves,
                early_stopping=False,
                random_state=parameters.seed,
            )
        )
        for leaves in ([parameters.leaves] if parameters.leaves else [8, 20])
    }


def last_value(train: Table, test: Table) -> Predictions:
    """Return the units of each pair's last known day [rows], or the mean of all without one."""
    given = test.features[:, _LAST].astype(np.float64)
    return np.asarray(np.where(np.isnan(given), train.labels.mean(), given))


def mean_of_the_pair(train: Table, test: Table) -> Predictions:
    """Return each pair's mean units in the training [rows], or the mean of all for a new pair."""
    names, position = np.unique(train.groups, return_inverse=True)
    means = np.bincount(position, weights=train.labels) / np.bincount(position)
    known = dict(zip(names.tolist(), means.tolist(), strict=True))
    return np.array([known.get(group, train.labels.mean()) for group in test.groups.tolist()])


TASK = Task(
    name="quantity",
    title="Units per store, product and day",
    use=(
        "Shows how quantities are forecast: the units that a store sells of a product on a day, "
        f"1 to {REACH} days ahead."
    ),
    limits=(
        "It forecasts sales of open stores; days on which a store is closed are not in the data.",
        "Sales differ from demand: empty shelves reduce the forecast.",
        "Every promotion counts as planned in advance, because the data does not record it.",
        "Late corrections replace earlier values, so some training features were not known exactly "
        "so on their morning.",
        "Pairs without known sales in the last 28 days get a mean of others; the output source "
        "states it.",
    ),
    datasets=("sales-warehouse", "sales", "sales-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(name="quantity", datatype=Datatype.FP32, description="units", minimum=0),
            Column(
                name="source",
                datatype=Datatype.BYTES,
                description=f"origin of the quantity: {', '.join(SOURCES)}",
            ),
        ),
    ),
    target=Quantity({"last value": last_value, "mean of the pair": mean_of_the_pair}),
    parameters=QuantityParameters,
    estimators=candidates,
    metrics=(WAPE, MAE),
    selection=WAPE,
    split=ByTime(days=2 * BLOCK, fold_days=BLOCK),
    export=export,
)
