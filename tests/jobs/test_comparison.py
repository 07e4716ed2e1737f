"""The interval of the difference between two versions, and the decision that it allows."""

import numpy as np
import pytest
from numpy.typing import NDArray
from slipway.training.dataset import Table
from slipway.training.installed import declared_task
from slipway.training.metric import ACCURACY, AUC, MAE, Direction
from slipway.training.split import Split
from slipway_jobs.promotion.comparison import (
    FEWEST,
    MIN_GROUPS,
    MOST_ROWS,
    Comparison,
    Decision,
    _resamples,
    compare_predictions,
)
from slipway_jobs.promotion.evaluation import HeldOut


def errors(rows: int, seed: int, size: float = 1.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, size, rows)


def of_errors(
    candidate: NDArray[np.float64],
    opponent: NDArray[np.float64],
    groups: NDArray[np.int64] | None = None,
) -> Comparison:
    """Compare two predictions of a quantity that is 0 in all rows."""
    rows = np.arange(len(candidate)) if groups is None else groups
    return compare_predictions(
        MAE, Direction.MIN, np.zeros(len(candidate)), rows, candidate, opponent
    )


def test_equal_predictions_are_not_distinguishable() -> None:
    found = of_errors(errors(100, 0), errors(100, 0))
    assert (found.low, found.gain, found.high) == (0, 0, 0)
    assert found.decision(0) is Decision.UNDECIDED
    assert found.decision(-0.1) is Decision.BETTER
    assert found.decision(0.1) is Decision.WORSE


def test_a_clearly_smaller_error_is_better_and_the_opposite_worse() -> None:
    small, large = errors(200, 0, 0.5), errors(200, 1)
    assert of_errors(small, large).decision(0) is Decision.BETTER
    assert of_errors(large, small).decision(0) is Decision.WORSE


def test_of_equally_good_models_about_one_in_forty_is_called_better() -> None:
    found = [of_errors(errors(100, seed), errors(100, seed + 1000)) for seed in range(200)]
    better = sum(each.decision(0) is Decision.BETTER for each in found)
    # 2.5 % of 200 is 5; the bound is 5 standard deviations above it.
    assert better <= 16


def test_rows_of_one_group_count_once() -> None:
    candidate, opponent = errors(20, 2, 0.6), errors(20, 3)
    single = of_errors(candidate, opponent)
    groups = np.repeat(np.arange(20), 50)
    copied = of_errors(np.repeat(candidate, 50), np.repeat(opponent, 50), groups)
    assert copied.gain == pytest.approx(single.gain)
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    naive = of_errors(np.repeat(candidate, 50), np.repeat(opponent, 50))
    assert naive.high - naive.low < (copied.high - copied.low) / 3


def test_few_groups_give_no_interval() -> None:
    groups = np.repeat(np.arange(MIN_GROUPS - 1), 100)
    found = of_errors(errors(len(groups), 0, 0.1), errors(len(groups), 1), groups)
    assert found.gain > 0.5
    assert found.decision(0) is Decision.UNDECIDED
    assert (found.as_json()["low"], found.as_json()["high"]) == (None, None)


def test_a_metric_that_is_undefined_in_some_resamples_has_an_interval() -> None:
    truth = np.array([1] + [0] * 39)
    good = np.stack([1 - 0.9 * truth, 0.9 * truth], axis=1)
    bad = np.full((40, 2), 0.5)
    found = compare_predictions(AUC, Direction.MAX, truth, np.arange(40), good, bad)
    assert found.gain == 0.5
    assert found.decision(0) is Decision.BETTER


def test_a_direction_reverses_the_gain() -> None:
    truth = np.tile([0, 1], 50)
    right = np.stack([1 - truth, truth], axis=1).astype(float)
    found = compare_predictions(ACCURACY, Direction.MIN, truth, np.arange(100), right, right[::-1])
    assert found.gain == -1
    assert found.decision(0) is Decision.WORSE


def test_a_table_of_one_class_has_an_interval_of_accuracy() -> None:
    truth = np.ones(100, np.int64)
    right = np.tile([0.1, 0.9], (100, 1))
    half = np.where((np.arange(100) % 2)[:, None] == 0, right, right[:, ::-1])
    found = compare_predictions(ACCURACY, Direction.MAX, truth, np.arange(100), right, half)
    assert found.decision(0) is Decision.BETTER


def test_a_large_table_is_compared_on_bounded_resamples() -> None:
    rows = 3 * MOST_ROWS
    assert {len(each) for each in _resamples(np.arange(rows))} == {MOST_ROWS}
    grouped = next(_resamples(np.repeat(np.arange(30), rows // 30)))
    assert len(grouped) == 10 * rows // 30


def test_the_best_of_many_versions_has_resamples_beyond_its_bounds() -> None:
    assert sum(1 for _ in _resamples(np.arange(100), 8000)) == 8000
    assert sum(1 for _ in _resamples(np.arange(2 * MOST_ROWS), 8000)) == FEWEST
    small, large = errors(200, 0, 0.9), errors(200, 1)
    found = [
        compare_predictions(
            MAE, Direction.MIN, np.zeros(200), np.arange(200), small, large, chosen_of
        )
        for chosen_of in (10, 20)
    ]
    assert found[1].low < found[0].low
    assert found[0].high < found[1].high


def test_of_a_split_by_time_the_weeks_of_a_subject_are_independent() -> None:
    days = np.arange("2026-01-05", "2026-03-02", dtype="datetime64[D]")
    rows = 2 * len(days)
    table = Table.of(
        np.arange(rows, dtype=np.float32).reshape(-1, 1),
        np.zeros(rows),
        groups=np.repeat(["Bremen", "Kiel"], len(days)).tolist(),
        times=np.tile(days, 2),
    )
    held_out = HeldOut(declared_task("quantity"), "sales", "", Split(table, table, ""), None)  # type: ignore[arg-type]  # it reads no version
    assert held_out.truth.shape == held_out.groups.shape
    assert table.times is not None
    weeks = {
        (group, str(day))
        for group, day in zip(table.groups, table.times.astype("datetime64[W]"), strict=True)
    }
    assert len(np.unique(held_out.groups)) == len(weeks) == 18
