"""Synthetic heart patients in the Cleveland table's schema, from a seeded generator.

For demonstrations and tests without a network. Each column is sampled independently, given disease
or none, with means and shares near those of the published table. A model that is trained on it is
not valid for patients.
"""

import numpy as np
from numpy.typing import NDArray
from slipway.training.dataset import Table

from slipway_heart.cleveland import COLUMNS

SEED = 1989
ROWS = 303
_SICK = 0.46
# (mean, standard deviation, decimals) without and with disease.
_NUMBERS = {
    "age": ((52.6, 9.5, 0), (56.6, 7.9, 0)),
    "trestbps": ((129, 16, 0), (134, 19, 0)),
    "chol": ((243, 53, 0), (251, 49, 0)),
    "thalach": ((158, 19, 0), (139, 22, 0)),
    "oldpeak": ((0.5, 0.8, 1), (1.6, 1.2, 1)),
}
# Shares of the codes, in the order of the signature, without and with disease.
_SHARES = {
    "sex": ((0.44, 0.56), (0.18, 0.82)),
    "cp": ((0.10, 0.25, 0.41, 0.24), (0.05, 0.06, 0.13, 0.76)),
    "fbs": ((0.86, 0.14), (0.84, 0.16)),
    "restecg": ((0.58, 0.01, 0.41), (0.40, 0.02, 0.58)),
    "exang": ((0.86, 0.14), (0.45, 0.55)),
    "slope": ((0.65, 0.30, 0.05), (0.26, 0.65, 0.09)),
    "ca": ((0.80, 0.13, 0.05, 0.02), (0.33, 0.32, 0.22, 0.13)),
    "thal": ((0.79, 0.04, 0.17), (0.27, 0.09, 0.64)),
}
_MISSING = {"ca": 0.013, "thal": 0.007}


def synthetic_heart(rows: int = ROWS, seed: int = SEED) -> Table:
    """Return ``rows`` synthetic patients; equal for equal seeds."""
    random = np.random.default_rng(seed)
    sick = random.random(rows) < _SICK
    columns = [
        _numbers(random, name, sick) if name in _NUMBERS else _codes(random, name, sick)
        for name in _names()
    ]
    features = np.stack(columns, axis=1)
    for name, share in _MISSING.items():
        features[random.random(rows) < share, _names().index(name)] = np.nan
    return Table.of(features, sick.astype(np.int64))


def _names() -> list[str]:
    return [column.name for column in COLUMNS]


def _numbers(
    random: np.random.Generator, name: str, sick: NDArray[np.bool_]
) -> NDArray[np.float64]:
    column = next(c for c in COLUMNS if c.name == name)
    (mean, spread, decimals), (sick_mean, sick_spread, _) = _NUMBERS[name]
    sampled = random.normal(np.where(sick, sick_mean, mean), np.where(sick, sick_spread, spread))
    low = 0 if name == "oldpeak" else column.minimum
    return np.clip(np.round(sampled, decimals), low, column.maximum)


def _codes(random: np.random.Generator, name: str, sick: NDArray[np.bool_]) -> NDArray[np.float64]:
    column = next(c for c in COLUMNS if c.name == name)
    codes = np.array(list(column.codes or {}), dtype=np.float64)
    well, ill = (random.choice(codes, size=len(sick), p=shares) for shares in _SHARES[name])
    return np.where(sick, ill, well)
