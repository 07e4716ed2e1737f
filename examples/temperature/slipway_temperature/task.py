"""The model ``temperature``: temperature by place, month and hour.

Its simple and its better version demonstrate a promotion.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from slipway.training import Column, Datatype, Signature
from slipway.training.dataset import Table
from slipway.training.metric import MAE, RMSE, Predictions
from slipway.training.target import Quantity
from slipway.training.task import Estimator, Parameters, Task

from slipway_temperature.climate import INPUTS

_LATITUDE, _LONGITUDE, _MONTH, _HOUR = range(len(INPUTS))


class TemperatureParameters(Parameters):
    """Parameters: the linear model adds the inputs' effects, boosting learns interactions."""

    folds: int = Field(default=3, ge=2, le=20)
    """parts of the cross-validation that chooses among the candidates"""

    estimator: Literal["linear", "boosting"] = "linear"
    """ridge regression, or gradient boosting"""

    trees: int = Field(default=100, ge=1, le=2000)
    """trees of the boosting"""


def candidates(parameters: TemperatureParameters) -> Mapping[str, Estimator]:
    """Return the chosen kind of estimator."""
    if parameters.estimator == "boosting":
        boosting = GradientBoostingRegressor(
            n_estimators=parameters.trees, max_depth=5, subsample=0.5, random_state=parameters.seed
        )
        return {f"boosting trees={parameters.trees}": boosting}
    # Month and hour are cyclic; a coefficient for each value needs no sines.
    cycles = OneHotEncoder(categories=[np.arange(1.0, 13), np.arange(24.0)], sparse_output=False)
    place = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False))
    columns = ColumnTransformer(
        [("place", place, [_LATITUDE, _LONGITUDE]), ("cycles", cycles, [_MONTH, _HOUR])]
    )
    return {
        f"linear alpha={alpha:g}": make_pipeline(columns, Ridge(alpha)) for alpha in (1.0, 100.0)
    }


_ZONES = (-66.5, -23.5, 0.0, 23.5, 66.5)
"""Polar circles, tropics and equator, in degrees of latitude."""


def climatology(train: Table, test: Table) -> Predictions:
    """Return the mean of the training rows of the same zone and month, or of all without such."""
    sums, counts = np.zeros((len(_ZONES) + 1, 13)), np.zeros((len(_ZONES) + 1, 13))
    where = _zone_and_month(train)
    np.add.at(sums, where, train.labels)
    np.add.at(counts, where, 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), train.labels.mean())
    return np.asarray(means[_zone_and_month(test)])


def _zone_and_month(table: Table) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    month = table.features[:, _MONTH].astype(np.intp)
    return np.digitize(table.features[:, _LATITUDE], _ZONES), month


TASK = Task(
    name="temperature",
    title="Temperature of a place",
    use=(
        "Shows how a quantity is predicted, and how a better version replaces a live one: the "
        "air's temperature by place, month and hour."
    ),
    limits=(
        "Trained on a synthetic climate: it is not valid for real weather.",
        "Height and weather are not inputs; their effects remain as an error.",
        "Stations are between 75 degrees south and north; beyond, it extrapolates.",
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
    target=Quantity({"climatology": climatology}),
    parameters=TemperatureParameters,
    estimators=candidates,
    metrics=(MAE, RMSE),
    selection=MAE,
)
