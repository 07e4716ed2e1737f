"""A formula of the air's temperature with noise, and rows of it at random places and times.

30 °C at the equator and 1 K less for each 3 degrees of latitude, seasons of ±10 K that are the same
on both hemispheres, a daily range of ±5 K around the noon of one time zone, and noise of 2 K.
"""

import numpy as np
from numpy.random import RandomState
from slipway.training import Column, Datatype
from slipway.training.dataset import Table

SEED = 42
ROWS = 1000
"""Rows of each of the two parts."""
HELD_OUT = "held out"
"""Beginning of the subjects of the second part."""

INPUTS = (
    Column(
        name="latitude", datatype=Datatype.FP32, unit="deg", minimum=-90, maximum=90,
        description="north of the equator; negative is south",
    ),
    Column(
        name="longitude", datatype=Datatype.FP32, unit="deg", minimum=-180, maximum=180,
        description="east of Greenwich; negative is west",
    ),
    Column(
        name="month", datatype=Datatype.INT64, minimum=1, maximum=12, description="1 is January"
    ),
    Column(
        name="hour", datatype=Datatype.INT64, minimum=0, maximum=23, description="of the day in UTC"
    ),
)  # fmt: skip


def synthetic_climate(rows: int = ROWS, seed: int = SEED) -> Table:
    """Return ``rows`` rows for training and as many that are held out; equal for equal seeds.

    The generator is NumPy's legacy one, whose sequence for a seed is fixed for all releases: the
    coefficients of a linear model of the first part are known numbers.
    """
    random = RandomState(seed)
    parts = [_rows(random, rows), _rows(random, rows)]
    features, celsius = (np.concatenate(each) for each in zip(*parts, strict=True))
    subjects = [*(f"training {row}" for row in range(rows))]
    subjects += [f"{HELD_OUT} {row}" for row in range(rows)]
    return Table.of(features, celsius, groups=subjects)


def _rows(random: RandomState, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs [count, 4] and temperatures [count] in °C."""
    latitude = random.randint(-90, 90, count)
    longitude = random.randint(-180, 180, count)
    month, hour = random.randint(1, 13, count), random.randint(0, 24, count)
    season = 10 * np.sin(2 * np.pi * (month - 1) / 12)
    day = 5 * np.cos(2 * np.pi * (hour - 12) / 24)
    celsius = 30 - np.abs(latitude) / 3 + season + day + random.normal(0, 2, count)
    return np.stack([latitude, longitude, month, hour], axis=1), celsius
