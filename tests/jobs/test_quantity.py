"""The model of quantities: better than what one would say without it, and honest about what it does
not know.
"""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from slipway_jobs.data.dataset import Floats, Table
from slipway_jobs.errors import Unavailable
from slipway_jobs.sales.fallback import SOURCES, WithFallback
from slipway_jobs.sales.features import COLUMNS, FeatureRequest, features
from slipway_jobs.sales.history import BLOCK, history
from slipway_jobs.sales.synthetic import SINCE, synthetic_sales
from slipway_jobs.tasks.split import Split, check_split
from slipway_jobs.tasks.task import declared_task, parse_parameters
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
    """On some pairs alone, to be fast."""
    few = Split(some(split.train), some(split.test), split.rule)
    return fit(TASK, parse_parameters(TASK, {"folds": "2", "trees": "30", "leaves": "12"}), few)


def some(part: Table) -> Table:
    return part.take(
        np.char.startswith(part.groups, b"Bremen/") | np.char.startswith(part.groups, b"Dresden/")
    )


def answers(fitted: Fitted, rows: Floats) -> dict[str, Any]:
    return fitted.served.run(TASK.feeds(rows))


def pairs(*named: str) -> Floats:
    """What is known of the pairs on the morning after the last day, for that day."""
    days = np.full(len(named), SALES.newest + 1)
    stores, products = zip(*(name.split("/") for name in named), strict=True)
    return features(SALES, FeatureRequest(np.array(stores), np.array(products), days, days))


def test_it_errs_less_than_the_last_value_and_than_the_mean_of_the_pair(fitted: Fitted) -> None:
    results = fitted.results
    assert set(results.baselines) == {"constant", "last value", "mean of the pair"}
    for metric in ("wape", "mae"):
        assert results.test[metric] < 0.85 * min(
            each[metric] for each in results.baselines.values()
        )


def test_the_last_weeks_are_held_out_and_folds_are_forecast_from_what_was_before_them(
    split: Split,
) -> None:
    assert split.train.times is not None
    assert split.test.times is not None
    assert split.test.times.min() == split.train.times.max() + 1
    assert (split.test.times.max() - split.test.times.min()).astype(int) == 2 * BLOCK - 1
    for fitting, scoring in TASK.split.folds(split.train, TASK.target, 3, 0):
        assert split.train.times[fitting].max() < split.train.times[scoring].min()


def test_of_too_few_days_it_is_said_that_none_is_left_to_learn_from() -> None:
    short = history(synthetic_sales(SINCE + timedelta(days=70)))
    with pytest.raises(
        Unavailable,
        match=r"the rows begin on 2024-01-30; with those from .* on held out, none is left",
    ):
        TASK.split.hold_out(short, TASK.target, "pair")


def test_scores_are_those_of_the_graph_that_is_served(fitted: Fitted, split: Split) -> None:
    test = some(split.test)
    said = answers(fitted, test.features)["quantity"].astype(float)
    assert np.abs(said - test.labels).sum() / test.labels.sum() == pytest.approx(
        fitted.results.test["wape"], abs=1e-4
    )


@pytest.mark.parametrize("count", [1, 3, 500])
def test_every_pair_is_answered_in_the_order_of_the_request(fitted: Fitted, count: int) -> None:
    known = ["Bremen/bread", "Dresden/umbrella", "Bremen/ice cream", "Nowhere/bread"]
    named = [known[index % 4] for index in range(count)]
    found = answers(fitted, pairs(*named))
    alone = {name: answers(fitted, pairs(name)) for name in set(named)}
    # Trees are summed up in another order in a larger batch.
    assert found["quantity"] == pytest.approx(
        [alone[name]["quantity"][0] for name in named], rel=1e-4
    )
    assert found["source"].tolist() == [alone[name]["source"][0] for name in named]


def test_what_is_not_known_is_said_to_be_a_mean_of_others(fitted: Fitted) -> None:
    rows = pairs("Bremen/bread", "Nowhere/bread", "Bremen/gold", "Nowhere/gold")
    lost = np.full((1, len(NAMES)), np.nan, dtype=np.float32)
    lost[0, NAMES.index("known_28")] = 0
    found = answers(fitted, np.concatenate([rows, lost]))
    assert (
        found["source"].tolist()
        == ["model", "product mean", "store mean", "overall mean", "nothing known"]
        == list(SOURCES)
    )
    for row, name in enumerate(("product_mean", "store_mean", "overall_mean"), start=1):
        assert found["quantity"][row] == rows[row, NAMES.index(name)]
    assert found["quantity"][4] == 0


def test_the_graph_says_the_same_of_strangers_as_the_estimator(fitted: Fitted) -> None:
    rows = np.concatenate(
        [pairs("Bremen/bread", "Nowhere/bread", "Bremen/gold", "Nowhere/gold")] * 2
    )
    rows[4:, NAMES.index("promotion")] = np.nan
    estimator = fitted.estimator
    assert isinstance(estimator, WithFallback)
    found = answers(fitted, rows)
    assert found["quantity"] == pytest.approx(estimator.predict(rows), rel=1e-4)
    assert found["source"].tolist() == [SOURCES[index] for index in estimator.source(rows)]


def test_a_promotion_that_is_planned_raises_the_forecast(fitted: Fitted) -> None:
    plain, promoted = pairs("Bremen/bread"), pairs("Bremen/bread")
    plain[0, NAMES.index("promotion")], promoted[0, NAMES.index("promotion")] = 0, 1
    assert answers(fitted, promoted)["quantity"][0] > 1.1 * answers(fitted, plain)["quantity"][0]


def test_the_signature_says_where_each_input_is_looked_up() -> None:
    lookup = TASK.signature.lookup
    assert lookup
    assert (lookup.features, lookup.keys, lookup.date) == ("sales-1", ("store", "product"), "date")
    assert all(column.lookup == lookup for column in TASK.signature.inputs)
