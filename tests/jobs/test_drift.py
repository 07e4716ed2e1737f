"""The statistics of the drift monitor, on numbers with known results."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from slipway.packaging.reference import POINTS, Distribution, Kind, reference_of
from slipway.training.dataset import Floats
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_jobs.monitoring.drift import compare, holm, ks_p, psi


def signature(columns: int) -> Signature:
    numbers = [
        Column(name=f"x{index}", datatype=Datatype.FP32, missing=True) for index in range(columns)
    ]
    code = Column(name="code", datatype=Datatype.FP32, codes={0: "a", 1: "b", 2: "c"}, missing=True)
    return Signature(
        inputs=(*numbers, code), outputs=(Column(name="label", datatype=Datatype.INT64),)
    )


def rows(
    count: int,
    columns: int = 3,
    *,
    seed: int = 1,
    shift: float = 0,
    shares: tuple[float, ...] = (0.5, 0.3, 0.2),
) -> Floats:
    random = np.random.default_rng(seed)
    numbers = random.normal(shift, 1, (count, columns))
    return np.column_stack([numbers, random.choice(3, count, p=shares)]).astype(np.float32)


REFERENCE = reference_of(signature(3), rows(500, seed=0))


def test_psi_of_known_shares() -> None:
    # (0.3 - 0.5) ln(0.3 / 0.5) + (0.7 - 0.5) ln(0.7 / 0.5); with so many rows, the added half
    # counts are negligible.
    assert psi(np.array([5e6, 5e6]), np.array([3e6, 7e6])) == pytest.approx(0.16946, abs=1e-4)
    assert psi(np.array([10.0, 20.0]), np.array([10.0, 20.0])) == 0


def test_psi_is_finite_when_a_bin_is_empty() -> None:
    assert 1 < psi(np.array([100.0, 0.0]), np.array([0.0, 100.0])) < 20


def test_holm_equals_the_published_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


def test_the_ks_test_is_that_of_scipy() -> None:
    random = np.random.default_rng(7)
    known, seen = random.normal(0, 1, POINTS - 1).astype(np.float32), random.normal(0.2, 1, 300)
    found = ks_p(Distribution.of("x", Kind.NUMBERS, known), seen)
    assert found == pytest.approx(float(ks_2samp(known, seen, method="asymp").pvalue))


def test_a_large_reference_is_reduced_and_exact_at_its_stored_values() -> None:
    column = np.random.default_rng(7).normal(0, 1, 20_000).astype(np.float32)
    known = Distribution.of("x", Kind.NUMBERS, column)
    assert len(known.values) <= POINTS
    assert known.rows == 20_000
    for value, cumulative in zip(known.values, np.cumsum(known.counts), strict=True):
        assert (column <= value).sum() == cumulative


@pytest.mark.parametrize("size", [30, 200])
def test_false_alarms_are_as_rare_as_specified(size: int) -> None:
    """Expect at most one report in a hundred: of 300, with 99.9 % certainty, at most 9."""
    alarms = [
        seed
        for seed in range(300)
        if any(column.drifted for column in compare(REFERENCE, rows(size, seed=1000 + seed)))
    ]
    assert len(alarms) <= 9


def test_a_small_window_has_a_large_psi_by_chance_alone() -> None:
    found = [column for seed in range(20) for column in compare(REFERENCE, rows(30, seed=seed))]
    assert any(column.level == "major" for column in found)


def test_a_shifted_number_is_named_and_no_other() -> None:
    window = rows(200)
    window[:, 1] += 1
    assert [column.name for column in compare(REFERENCE, window) if column.drifted] == ["x1"]


def test_a_code_that_became_common_is_named() -> None:
    window = rows(200, shares=(0.1, 0.2, 0.7))
    assert [column.name for column in compare(REFERENCE, window) if column.drifted] == ["code"]


def test_values_that_went_missing_are_drift() -> None:
    window = rows(200)
    window[::3, 2] = np.nan
    (drifted,) = [column for column in compare(REFERENCE, window) if column.drifted]
    assert drifted.name == "x2"
    assert drifted.missing_window == pytest.approx(67 / 200)
    assert drifted.level != "major"


def test_a_column_without_any_value_is_drift() -> None:
    window = rows(100)
    window[:, 0] = np.nan
    (drifted,) = [column for column in compare(REFERENCE, window) if column.drifted]
    assert (drifted.name, drifted.psi) == ("x0", None)


def test_an_irrelevant_difference_is_not_drift_in_any_number_of_rows() -> None:
    reference = reference_of(signature(1), rows(50_000, 1, seed=0))
    found = compare(reference, rows(50_000, 1, shift=0.05))
    assert found[0].p < 1e-6
    assert not found[0].drifted


@pytest.mark.parametrize("value", [3, -3])
def test_a_pixel_that_is_no_longer_always_white_is_drift(value: int) -> None:
    image = Signature(
        inputs=(Column(name="pixels", datatype=Datatype.FP32, shape=(2,)),),
        outputs=(Column(name="label", datatype=Datatype.INT64),),
    )
    white = np.column_stack([np.zeros(300), np.arange(300) % 17]).astype(np.float32)
    grey = white.copy()
    grey[:, 0] = value
    assert [c.name for c in compare(reference_of(image, white), white) if c.drifted] == []
    assert [c.name for c in compare(reference_of(image, white), grey) if c.drifted] == ["pixels[0]"]


def test_values_below_a_frequent_minimum_have_their_own_bin() -> None:
    often_zero = rows(500, 1, seed=4)
    often_zero[:, 0] = np.maximum(often_zero[:, 0], 0)
    below = rows(300, 1, seed=5)
    below[:, 0] = np.where(below[:, 0] > 0, below[:, 0], -1)
    (found, _) = compare(reference_of(signature(1), often_zero), below)
    assert (found.level, found.drifted) == ("major", True)
