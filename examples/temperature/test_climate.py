"""The model ``temperature``, in a simple and a better version."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from slipway.registry.tracking import Tracking
from slipway.training.installed import declared_task
from slipway.training.split import Split
from slipway.training.task import parse_parameters
from slipway_contract.errors import InvalidInput
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import Fitted, fit
from slipway_temperature.climate import synthetic_climate

from tests.jobs.conftest import Trainer

TASK = declared_task("temperature")
CLIMATE = synthetic_climate()


@pytest.fixture(scope="module")
def split() -> Split:
    return TASK.split.hold_out(CLIMATE, TASK.target, "reading")


@pytest.fixture(scope="module")
def boosting(split: Split) -> Fitted:
    return fit(
        TASK, parse_parameters(TASK, {"estimator": "boosting", "trees": "60", "folds": "2"}), split
    )


def test_the_second_part_of_the_rows_is_held_out(split: Split) -> None:
    assert (len(split.train), len(split.test)) == (1000, 1000)
    assert split.rule == "the 1000 rows that were generated after those of the training held out"
    TASK.split.check(split)


def test_the_linear_version_has_the_known_answer(split: Split) -> None:
    """Least squares on the same rows by another program has 8.5607206547650 here."""
    graph = fit(TASK, parse_parameters(TASK, {}), split).served
    place = np.array([[40, 120, 11, 4]], np.float32)
    assert graph.run(TASK.feeds(place))["temperature"].item() == pytest.approx(8.56072, abs=1e-4)


def test_readings_are_within_the_bounds_of_the_signature_and_plausible() -> None:
    rows = [
        dict(zip((c.name for c in TASK.signature.inputs), row, strict=True))
        for row in CLIMATE.features[:200].tolist()
    ]
    whole = [{**row, "month": int(row["month"]), "hour": int(row["hour"])} for row in rows]
    assert TASK.signature.request(whole).inputs[2].shape == [200]
    assert -25 < CLIMATE.labels.min() < CLIMATE.labels.max() < 55


def test_the_climate_depends_on_the_seed_alone() -> None:
    assert synthetic_climate(5, seed=1).digest == synthetic_climate(5, seed=1).digest
    assert synthetic_climate(5, seed=1).digest != synthetic_climate(5, seed=2).digest


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"latitude": 90.5}, "latitude: 90.5 is above the maximum 90 deg"),
        ({"longitude": -181.0}, "longitude: -181 is below the minimum -180 deg"),
        ({"month": 13}, "month: 13 is above the maximum 12"),
        ({"month": 0}, "month: 0 is below the minimum 1"),
        ({"hour": 24}, "hour: 24 is above the maximum 23"),
        ({"hour": 12.5}, "hour: value 0 is 12.5 (float); INT64 is expected"),
    ],
)
def test_invalid_places_and_times_are_refused_by_name(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TASK.signature.request(
            [{"latitude": 48.1, "longitude": 11.6, "month": 7, "hour": 12, **wrong}]
        )
    assert str(refused.value) == reason


def test_boosting_has_the_seasons_and_the_day(boosting: Fitted) -> None:
    times = np.array([[0, 0, 4, 12], [0, 0, 10, 12], [0, 0, 4, 0]], dtype=np.float32)
    april, october, night = boosting.served.run(TASK.feeds(times))["temperature"].tolist()
    assert april > october + 12
    assert april > night + 5


@pytest.mark.slow
def test_boosting_is_promoted_over_linear_and_linear_not_over_boosting(
    trained: Trainer, settings: Settings, tracking: Tracking
) -> None:
    task = replace(TASK, name="temperature-gate")
    plain, better = (
        trained(task, folds="2"),
        trained(task, estimator="boosting", trees="60", folds="2"),
    )
    assert plain["synthetic"] is True
    for name in ("mae", "rmse"):
        assert better["metrics"][name] < plain["metrics"][name] < plain["baseline"][name]
    first, second = (tracking.version(task.name, result["version"]) for result in (plain, better))
    states = [
        promote(task, version, PromotionRequest("gate"), settings, tracking)["state"]
        for version in (first, second, first)
    ]
    assert states == ["promoted", "promoted", "refused"]
