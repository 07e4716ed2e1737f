"""Units that a store sells of a product on a day."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingRegressor
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.data.dataset import Table
from slipway_jobs.sales.fallback import SOURCES, WithFallback
from slipway_jobs.sales.features import COLUMNS, REACH
from slipway_jobs.sales.graph import export
from slipway_jobs.sales.history import BLOCK
from slipway_jobs.tasks.metric import MAE, WAPE, Predictions
from slipway_jobs.tasks.space import Range
from slipway_jobs.tasks.split import ByTime
from slipway_jobs.tasks.target import Quantity
from slipway_jobs.tasks.task import Estimator, Parameters, Task

_LOSSES = {"median": "absolute_error", "mean": "squared_error"}
_LAST = [column.name for column in COLUMNS].index("last")


class QuantityParameters(Parameters):
    """Boosted trees; how many leaves a tree has is chosen by cross-validation."""

    folds: int = Field(default=3, ge=2, le=12)
    """blocks of four weeks, the last ones before those held out, each forecast from what was before
    it
    """

    estimate: Literal["median", "mean"] = "median"
    """what is estimated: the median errs least in units, the mean adds up to the right total"""

    trees: int = Field(default=60, ge=1, le=2000)
    """trees of the boosting"""

    learning_rate: Annotated[float, Range(0.03, 0.3, log=True)] = Field(default=0.1, gt=0, le=1)
    """how much each tree corrects"""

    leaves: Annotated[int | None, Range(4, 64, log=True)] = Field(default=None, ge=2, le=255)
    """leaves of each tree; chosen by cross-validation when not set"""


def candidates(parameters: QuantityParameters) -> Mapping[str, Estimator]:
    """Boosting with small and with larger trees."""
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
    """What the pair sold on the last day that was known; the mean of all where none was."""
    given = test.features[:, _LAST].astype(np.float64)
    return np.where(np.isnan(given), train.labels.mean(), given)


def mean_of_the_pair(train: Table, test: Table) -> Predictions:
    """What the pair sold on the average day of the training; the mean of all where it is new."""
    names, position = np.unique(train.groups, return_inverse=True)
    means = np.bincount(position, weights=train.labels) / np.bincount(position)
    known = dict(zip(names.tolist(), means.tolist(), strict=True))
    return np.array([known.get(group, train.labels.mean()) for group in test.groups.tolist()])


TASK = Task(
    name="quantity",
    title="Units a store, product and day",
    use=(
        "Shows how quantities are forecast: how many units a store sells of a product on a day, "
        f"1 to {REACH} days ahead."
    ),
    limits=(
        (
            "It tells what is sold when the store is open: of days on which it is closed it "
            "learns nothing."
        ),
        "What is sold is not what was wanted: where shelves are empty, it learns the emptiness.",
        (
            "Whether a promotion was planned in advance is not in the data; every promotion is "
            "taken for planned."
        ),
        (
            "Late corrections replace what was known: what it learns from was on some mornings "
            "not known exactly so."
        ),
        (
            "Pairs of which nothing is known of the last 28 days get a mean of others, and the "
            "answer says so."
        ),
    ),
    datasets=("sales-warehouse", "sales", "sales-synthetic"),
    signature=Signature(
        inputs=COLUMNS,
        outputs=(
            Column(name="quantity", datatype=Datatype.FP32, description="units", minimum=0),
            Column(
                name="source",
                datatype=Datatype.BYTES,
                description=f"how it was made: {', '.join(SOURCES)}",
            ),
        ),
    ),
    target=Quantity({"last value": last_value, "mean of the pair": mean_of_the_pair}),
    parameters=QuantityParameters,
    candidates=candidates,
    metrics=(WAPE, MAE),
    selection=WAPE,
    split=ByTime(days=2 * BLOCK, fold_days=BLOCK),
    export=export,
)
