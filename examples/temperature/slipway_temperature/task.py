"""The model ``temperature``: temperature by place, month and hour.

Its simple and its better version demonstrate a promotion.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from slipway.training import Column, Datatype, Signature
from slipway.training.dataset import Table
from slipway.training.metric import MAE, RMSE
from slipway.training.split import BySubject, Split
from slipway.training.target import Fold, Quantity, Target
from slipway.training.task import Estimator, Parameters, Task

from slipway_temperature.climate import HELD_OUT, INPUTS, ROWS


class TemperatureParameters(Parameters):
    """Parameters: the linear model adds the inputs' effects, boosting learns their forms."""

    folds: int = Field(default=3, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    estimator: Literal["linear", "boosting"] = "linear"
    """least squares on the four inputs, or gradient boosting"""

    trees: int = Field(default=100, ge=1, le=2000)
    """trees of the boosting"""


def candidates(parameters: TemperatureParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator."""
    if parameters.estimator == "linear":
        return {"linear": LinearRegression()}
    boosting = GradientBoostingRegressor(
        n_estimators=parameters.trees, max_depth=3, subsample=0.5, random_state=parameters.seed
    )
    return {f"boosting trees={parameters.trees}": boosting}


@dataclass(frozen=True)
class SecondPart:
    """Hold out the second part of the generated rows, so that the first is the training set."""

    column: str | None = None

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:  # noqa: ARG002  # part of the protocol
        held = np.char.startswith(table.groups, HELD_OUT.encode())
        rule = f"the {ROWS} rows that were generated after those of the training held out"
        return Split(table.take(~held), table.take(held), rule)

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:
        return target.folds(train, parts, seed)

    def check(self, split: Split) -> None:
        BySubject().check(split)


TASK = Task(
    name="temperature",
    title="Temperature of a place",
    use=(
        "Shows how a quantity is predicted, and how a better version replaces a live one: the "
        "air's temperature by place, month and hour."
    ),
    limits=(
        "Trained on a formula with noise: it is not valid for real weather.",
        "The formula has the same seasons on both hemispheres, and one time zone.",
        "The linear version has no seasons: it adds a constant for each month that passes.",
    ),
    datasets=("climate-synthetic",),
    signature=Signature(
        inputs=INPUTS,
        outputs=(
            Column(
                name="temperature",
                datatype=Datatype.FP32,
                unit="Cel",
                description="expected air temperature",
            ),
        ),
    ),
    target=Quantity(),
    parameters=TemperatureParameters,
    estimators=candidates,
    metrics=(MAE, RMSE),
    selection=MAE,
    split=SecondPart(),
)
