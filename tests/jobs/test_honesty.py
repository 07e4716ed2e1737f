"""Leaks that are put in on purpose must be found."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from slipway_jobs.dataset import Table
from slipway_jobs.errors import Leakage
from slipway_jobs.problem import parse_parameters, problem
from slipway_jobs.split import Split, check_split, hold_out
from slipway_jobs.synthetic import synthetic_heart
from slipway_jobs.training import check_fit, cross_validate

PATIENTS = synthetic_heart()


def split_of(table: Table) -> Split:
    return hold_out(table, 0.3, "patient")


def joined(*tables: Table) -> Table:
    return Table.of(np.concatenate([t.features for t in tables]), np.concatenate([t.labels for t in tables]))


def test_a_share_of_each_class_is_held_out() -> None:
    split = split_of(PATIENTS)
    for label in (0, 1):
        assert (split.test.labels == label).sum() == round(0.3 * (PATIENTS.labels == label).sum())
    assert len(split.train) + len(split.test) == len(PATIENTS)
    check_split(PATIENTS, split)


def test_the_same_rows_are_held_out_whatever_the_order_of_the_file() -> None:
    shuffled = np.random.default_rng(1).permutation(len(PATIENTS))
    again = split_of(Table.of(PATIENTS.features[shuffled], PATIENTS.labels[shuffled]))
    assert again.test.digest == split_of(PATIENTS).test.digest


def test_twins_stay_on_one_side() -> None:
    twice = joined(PATIENTS, PATIENTS)
    split = split_of(twice)
    check_split(twice, split)
    assert not np.intersect1d(split.train.keys, split.test.keys).size


def test_twins_with_different_labels_stay_on_one_side() -> None:
    twice = joined(PATIENTS, replace(PATIENTS, labels=1 - PATIENTS.labels))
    check_split(twice, split_of(twice))


def test_a_row_that_is_also_in_the_training_data_is_found() -> None:
    split = split_of(PATIENTS)
    leaky = replace(split, train=joined(split.train, split.test.take(np.arange(3))))
    with pytest.raises(Leakage, match="3 rows of the held-out data have a twin in the training data"):
        check_split(PATIENTS, leaky)


def test_a_row_that_was_lost_is_found() -> None:
    split = split_of(PATIENTS)
    with pytest.raises(Leakage, match="are not, taken together, the rows of the dataset"):
        check_split(PATIENTS, replace(split, train=split.train.take(np.arange(5, len(split.train)))))


def test_values_imputed_from_all_rows_before_the_split_are_found() -> None:
    split = split_of(PATIENTS)
    imputer = SimpleImputer(strategy="mean").fit(PATIENTS.features)
    filled = replace(split.train, features=imputer.transform(split.train.features).astype(np.float32))
    with pytest.raises(Leakage, match="something was fitted on them before the split"):
        check_split(PATIENTS, replace(split, train=filled))


def test_an_imputer_that_was_fitted_on_all_rows_is_found() -> None:
    task = problem("heart")
    (estimator,) = task.candidates(parse_parameters(task, {"C": "0.1"})).values()
    split = split_of(PATIENTS)
    honest = clone(estimator).fit(split.train.features, split.train.labels)
    check_fit(honest, split.train)

    preparation = clone(estimator)[:-1].fit(PATIENTS.features)
    classifier = LogisticRegression(C=0.1, max_iter=2000).fit(preparation.transform(split.train.features), split.train.labels)
    leaky = clone(estimator)
    leaky.steps = [*preparation.steps, ("logisticregression", classifier)]
    with pytest.raises(Leakage, match="fitted anew on the training rows alone, the model gives other probabilities"):
        check_fit(leaky, split.train)


def test_an_estimator_that_saw_the_held_out_rows_is_found() -> None:
    task = problem("heart")
    (estimator,) = task.candidates(parse_parameters(task, {"estimator": "forest", "trees": "10"})).values()
    with pytest.raises(Leakage):
        check_fit(clone(estimator).fit(PATIENTS.features, PATIENTS.labels), split_of(PATIENTS).train)


def test_cross_validation_keeps_twins_in_one_fold() -> None:
    """With labels that are noise, twins in two folds would let a forest look clever."""
    random = np.random.default_rng(0)
    noise = Table.of(PATIENTS.features, random.integers(0, 2, len(PATIENTS)))
    task = problem("heart")
    parameters = parse_parameters(task, {"estimator": "forest", "trees": "30", "folds": "5"})
    (forest,) = task.candidates(parameters).values()
    found = cross_validate(task, forest, joined(noise, noise), parameters)
    assert np.mean(found["auc"]) < 0.65
