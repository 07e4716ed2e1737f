"""Synthetic weather stations: temperatures from a seeded generator of a plausible climate.

The temperature falls towards the poles. Seasons grow with latitude and with the distance from the
sea, half a year apart on the two hemispheres. The warmest hour is 15 o'clock solar time; the daily
range is smaller near the poles. Two effects are not in the inputs: each station's height, with 6.5
K less per kilometre (the lapse rate of the standard atmosphere), and the weather.
"""

import numpy as np
from numpy.typing import NDArray
from slipway.training import Column, Datatype
from slipway.training.dataset import Table

SEED = 1961
STATIONS = 240
READINGS = 40
"""Readings of each station."""

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

Values = NDArray[np.float64]


def synthetic_climate(
    stations: int = STATIONS, readings: int = READINGS, seed: int = SEED
) -> Table:
    """Return ``stations`` × ``readings`` synthetic temperatures in °C; equal for equal seeds."""
    random = np.random.default_rng(seed)
    station = np.repeat(np.arange(stations), readings)
    # Evenly over the sphere, up to 75 degrees north and south.
    latitude = np.degrees(np.arcsin(random.uniform(-0.966, 0.966, stations))).round(2)[station]
    longitude = random.uniform(-180, 180, stations).round(2)[station]
    height = random.gamma(1.5, 0.25, stations)[station]
    month, hour = random.integers(1, 13, len(station)), random.integers(0, 24, len(station))
    weather = random.normal(0, 2 + 1.5 * np.abs(np.sin(np.radians(latitude))))
    celsius = _climate(latitude, longitude, month, hour) - 6.5 * height + weather
    features = np.stack([latitude, longitude, month, hour], axis=1)
    return Table.of(features, celsius.round(1), groups=[f"station {number}" for number in station])


def _climate(
    latitude: Values, longitude: Values, month: NDArray[np.int64], hour: NDArray[np.int64]
) -> Values:
    """Return the mean temperatures [rows] at sea level, in °C."""
    north = np.sin(np.radians(latitude))
    # two continents and two oceans around the globe
    inland = 0.5 + 0.5 * np.cos(np.radians(2 * (longitude - 60)))
    season = np.cos(2 * np.pi * (month - 7.5) / 12) * north * (6 + 14 * inland)
    sun = np.cos(2 * np.pi * (hour + longitude / 15 - 15) / 24)
    day = sun * (1.5 + 4 * inland) * np.cos(np.radians(latitude))
    return np.asarray(28 - 42 * north**2 + season + day)
