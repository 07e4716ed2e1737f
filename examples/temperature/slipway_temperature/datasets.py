"""The datasets of temperature."""

from slipway.training.dataset import Dataset

from slipway_temperature.climate import INPUTS, READINGS, SEED, STATIONS, synthetic_climate

CLIMATE_SYNTHETIC = Dataset(
    name="climate-synthetic",
    title=(f"Synthetic: {STATIONS} weather stations, {READINGS} temperatures of each"),
    source=f"slipway_temperature.climate, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by Slipway's generator; not valid for weather",
    subject="synthetic station",
    columns=INPUTS,
    make=synthetic_climate,
    synthetic=True,
)
