"""The model ``quantity``: its scores compared with baselines, and its fallbacks."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from slipway.errors import Unavailable
from slipway.training.dataset import Floats, Table
from slipway.training.installed import declared_task
from slipway.training.split import Split, check_split
from slipway.training.task import parse_parameters
from slipway_jobs.sales.fallback import SOURCES, WithFallback
from slipway_jobs.sales.features import COLUMNS, FeatureRequest, features
from slipway_jobs.sales.history import BLOCK, history
from slipway_jobs.sales.synthetic import SINCE, synthetic_sales
from slipway_jobs.training.training import Fitted, fit

TASK = declared_task("quantity")
SALES = synthetic_sales(SINCE + timedelta(days=400))
NAMES = [column.name for column in COLUMNS]


@pytest.fixture(scope="module")
def split() -> Split:
    table = history(SALES)
    parts = TASK.split.hold_out(table, TASK.target, "pair")
    check_split(table, parts, TASK.split)
    return parts


@pytest.fixture(scope="module")
def fitted(split: Split) -> Fitted:
    """Train on some pairs alone, which is fast."""
    few = Split(some(split.train), some(split.test), split.rule)
    return fit(TASK, parse_parameters(TASK, {"folds": "2", "trees": "30", "leaves": "12"}), few)


def some(part: Table) -> Table:
    return part.take(
        np.char.startswith(part.groups, b"Bremen/") | np.char.startswith(part.groups, b"Dresden/")
    )


def predictions(fitted: Fitted, rows: Floats) -> dict[str, Any]:
    return fitted.served.run(TASK.feeds(rows))


def pairs(*named: str) -> Floats:
    """Return the features of the pairs on the morning after the last day, for that day."""
    days = np.full(len(named), SALES.newest + 1)
    stores, products = zip(*(name.split("/") for name in named), strict=True)
    return features(SALES, FeatureRequest(np.array(stores), np.array(products), days, days))


def test_its_error_is_below_that_of_the_baselines(fitted: Fitted) -> None:
    results = fitted.results
    assert set(results.baselines) == {"constant", "last value", "mean of the pair"}
    for metric in ("wape", "mae"):
        assert results.test[metric] < 0.85 * min(
            each[metric] for each in results.baselines.values()
        )


def test_the_last_weeks_are_held_out_and_folds_are_forecast_from_earlier_days(split: Split) -> None:
    assert split.train.times is not None
    assert split.test.times is not None
    assert split.test.times.min() == split.train.times.max() + 1
    assert (split.test.times.max() - split.test.times.min()).astype(int) == 2 * BLOCK - 1
    for fitting, scoring in TASK.split.folds(split.train, TASK.target, 3, 0):
        assert split.train.times[fitting].max() < split.train.times[scoring].min()


def test_too_few_days_are_refused() -> None:
    short = history(synthetic_sales(SINCE + timedelta(days=70)))
    with pytest.raises(
        Unavailable,
        match=r"the rows begin on 2024-01-30; with those from .* on held out, none is left",
    ):
        TASK.split.hold_out(short, TASK.target, "pair")


def test_scores_are_those_of_the_served_graph(fitted: Fitted, split: Split) -> None:
    test = some(split.test)
    predicted = predictions(fitted, test.features)["quantity"].astype(float)
    assert np.abs(predicted - test.labels).sum() / test.labels.sum() == pytest.approx(
        fitted.results.test["wape"], abs=1e-4
    )


@pytest.mark.parametrize("count", [1, 3, 500])
def test_every_pair_is_predicted_in_the_order_of_the_request(fitted: Fitted, count: int) -> None:
    known = ["Bremen/bread", "Dresden/umbrella", "Bremen/ice cream", "Nowhere/bread"]
    named = [known[index % 4] for index in range(count)]
    found = predictions(fitted, pairs(*named))
    alone = {name: predictions(fitted, pairs(name)) for name in set(named)}
    # A larger batch sums the trees in another order.
    assert found["quantity"] == pytest.approx(
        [alone[name]["quantity"][0] for name in named], rel=1e-4
    )
    assert found["source"].tolist() == [alone[name]["source"][0] for name in named]


def test_unknown_pairs_have_a_mean_of_others_as_source(fitted: Fitted) -> None:
    rows = pairs("Bremen/bread", "Nowhere/bread", "Bremen/gold", "Nowhere/gold")
    unknown = np.full((1, len(NAMES)), np.nan, dtype=np.float32)
    unknown[0, NAMES.index("known_28")] = 0
    found = predictions(fitted, np.concatenate([rows, unknown]))
    assert (
        found["source"].tolist()
        == ["model", "product mean", "store mean", "overall mean", "nothing known"]
        == list(SOURCES)
    )
    for row, name in enumerate(("product_mean", "store_mean", "overall_mean"), start=1):
        assert found["quantity"][row] == rows[row, NAMES.index(name)]
    assert found["quantity"][4] == 0


def test_the_graph_equals_the_estimator_for_unknown_pairs(fitted: Fitted) -> None:
    rows = np.concatenate(
        [pairs("Bremen/bread", "Nowhere/bread", "Bremen/gold", "Nowhere/gold")] * 2
    )
    rows[4:, NAMES.index("promotion")] = np.nan
    estimator = fitted.estimator
    assert isinstance(estimator, WithFallback)
    found = predictions(fitted, rows)
    assert found["quantity"] == pytest.approx(estimator.predict(rows), rel=1e-4)
    assert found["source"].tolist() == [SOURCES[index] for index in estimator.source(rows)]


def test_a_planned_promotion_raises_the_forecast(fitted: Fitted) -> None:
    plain, promoted = pairs("Bremen/bread"), pairs("Bremen/bread")
    plain[0, NAMES.index("promotion")], promoted[0, NAMES.index("promotion")] = 0, 1
    assert (
        predictions(fitted, promoted)["quantity"][0]
        > 1.1 * predictions(fitted, plain)["quantity"][0]
    )


def test_the_signature_has_the_lookup_of_each_input() -> None:
    lookup = TASK.signature.lookup
    assert lookup
    assert (lookup.features, lookup.keys, lookup.date) == ("sales-1", ("store", "product"), "date")
    assert all(column.lookup == lookup for column in TASK.signature.inputs)
