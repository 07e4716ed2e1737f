"""The metrics that Slipway computes itself, compared with scikit-learn's."""

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from slipway.training.metric import AUC

CASES = st.lists(
    # Few values, so that many rows have equal probabilities.
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1)),
    min_size=2,
    max_size=60,
).filter(lambda rows: len({case for case, _ in rows}) == 2)


@given(CASES)
def test_the_area_under_the_curve_is_that_of_scikit_learn(rows: list[tuple[bool, float]]) -> None:
    truth = np.array([case for case, _ in rows], dtype=np.int64)
    probabilities = np.array([[1 - p, p] for _, p in rows])
    assert AUC.score(truth, probabilities) == pytest.approx(
        roc_auc_score(truth, probabilities[:, 1]), abs=1e-12
    )


def test_rows_of_one_class_have_no_area_under_the_curve() -> None:
    assert isnan(AUC.score(np.array([1, 1]), np.array([[0.5, 0.5], [0.1, 0.9]])))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_prediction_that_is_no_number_has_no_score(wrong: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        AUC.score(np.array([0, 1]), np.array([[0.5, 0.5], [0.0, wrong]]))
