"""The model ``temperature``, in a simple and a better version."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from slipway.registry.tracking import Tracking
from slipway.training.dataset import Table
from slipway.training.installed import declared_task
from slipway.training.split import Split
from slipway.training.task import parse_parameters
from slipway_contract.errors import InvalidInput
from slipway_jobs.promotion.promotion import PromotionRequest, promote
from slipway_jobs.settings import Settings
from slipway_jobs.training.training import Fitted, fit
from slipway_temperature.climate import synthetic_climate
from slipway_temperature.task import climatology

from tests.jobs.conftest import Trainer

TASK = declared_task("temperature")
CLIMATE = synthetic_climate()


@pytest.fixture(scope="module")
def split() -> Split:
    return TASK.split.hold_out(CLIMATE, TASK.target, "station")


@pytest.fixture(scope="module")
def boosting(split: Split) -> Fitted:
    return fit(
        TASK, parse_parameters(TASK, {"estimator": "boosting", "trees": "60", "folds": "2"}), split
    )


def test_each_station_is_in_one_part_and_the_rule_describes_it(split: Split) -> None:
    assert not np.intersect1d(split.train.groups, split.test.groups).size
    assert len(np.unique(split.test.groups)) == 72
    assert split.rule == "30% of the stations held out, all rows of a station in the same part"


def test_readings_are_within_the_bounds_of_the_signature_and_plausible() -> None:
    rows = [
        dict(zip((c.name for c in TASK.signature.inputs), row, strict=True))
        for row in CLIMATE.features[:200].tolist()
    ]
    whole = [{**row, "month": int(row["month"]), "hour": int(row["hour"])} for row in rows]
    assert TASK.signature.request(whole).inputs[2].shape == [200]
    assert -75 < CLIMATE.labels.min() < CLIMATE.labels.max() < 60


def test_the_climate_depends_on_the_seed_alone() -> None:
    few = {"stations": 5, "readings": 3}
    assert synthetic_climate(**few, seed=1).digest == synthetic_climate(**few, seed=1).digest
    assert synthetic_climate(**few, seed=1).digest != synthetic_climate(**few, seed=2).digest


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


def test_climatology_is_the_mean_of_zone_and_month() -> None:
    places = np.array([[50, 0, 7, 1], [40, 90, 7, 13], [50, 0, 1, 1], [-50, 0, 7, 1]])
    train = Table.of(places, np.array([20.0, 24.0, 0.0, 4.0]))
    requested = Table.of(
        np.array([[60, 5, 7, 2], [60, 5, 1, 2], [-60, 5, 7, 2], [5, 5, 5, 5]]), np.zeros(4)
    )
    predicted = {
        tuple(row): value
        for row, value in zip(
            requested.features.tolist(), climatology(train, requested).tolist(), strict=True
        )
    }
    assert predicted == {(60, 5, 7, 2): 22, (60, 5, 1, 2): 0, (-60, 5, 7, 2): 4, (5, 5, 5, 5): 12}


def test_the_graph_has_the_seasons_of_both_hemispheres(boosting: Fitted) -> None:
    graph = boosting.served
    places = np.array(
        [[55, 60, 7, 12], [55, 60, 1, 12], [-55, 60, 7, 12], [-55, 60, 1, 12]], dtype=np.float32
    )
    july_north, january_north, july_south, january_south = graph.run(TASK.feeds(places))[
        "temperature"
    ].tolist()
    assert july_north > january_north + 8
    assert january_south > july_south + 8


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
