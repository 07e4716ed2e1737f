"""The datasets of temperature."""

from slipway.training.dataset import Dataset

from slipway_temperature.climate import INPUTS, ROWS, SEED, synthetic_climate

CLIMATE_SYNTHETIC = Dataset(
    name="climate-synthetic",
    title=f"Synthetic: a formula with noise at {2 * ROWS} random places and times",
    source=f"slipway_temperature.climate, seed {SEED}",
    licence="Apache-2.0",
    citation="none: made by a generator; not valid for weather",
    subject="synthetic reading",
    columns=INPUTS,
    make=synthetic_climate,
    synthetic=True,
)
