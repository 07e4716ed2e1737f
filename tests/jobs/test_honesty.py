"""Leaks of held-out data into the training are detected."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from slipway.errors import Leakage
from slipway.training.dataset import Table
from slipway.training.fitting import check_fit, cross_validate
from slipway.training.installed import declared_task
from slipway.training.split import BySubject, ByTime, Split, check_split
from slipway.training.target import Classes, Quantity
from slipway.training.task import parse_parameters
from slipway_heart.synthetic import synthetic_heart

PATIENTS = synthetic_heart()
BY_PATIENT = BySubject(0.3)


def split_of(table: Table) -> Split:
    return BY_PATIENT.hold_out(table, Classes(2), "patient")


def joined(*tables: Table) -> Table:
    return Table.of(
        np.concatenate([t.features for t in tables]), np.concatenate([t.labels for t in tables])
    )


def test_a_share_of_each_class_is_held_out() -> None:
    split = split_of(PATIENTS)
    for label in (0, 1):
        assert (split.test.labels == label).sum() == round(0.3 * (PATIENTS.labels == label).sum())
    assert len(split.train) + len(split.test) == len(PATIENTS)
    check_split(PATIENTS, split, BY_PATIENT)


def test_the_same_rows_are_held_out_whatever_the_order_of_the_file() -> None:
    shuffled = np.random.default_rng(1).permutation(len(PATIENTS))
    again = split_of(Table.of(PATIENTS.features[shuffled], PATIENTS.labels[shuffled]))
    assert again.test.digest == split_of(PATIENTS).test.digest


def test_duplicates_are_in_one_part() -> None:
    twice = joined(PATIENTS, PATIENTS)
    split = split_of(twice)
    check_split(twice, split, BY_PATIENT)
    assert not np.intersect1d(split.train.keys, split.test.keys).size


def test_duplicates_with_different_labels_are_in_one_part() -> None:
    twice = joined(PATIENTS, replace(PATIENTS, labels=1 - PATIENTS.labels))
    check_split(twice, split_of(twice), BY_PATIENT)


def test_a_held_out_row_in_the_training_data_is_detected() -> None:
    split = split_of(PATIENTS)
    leaky = replace(split, train=joined(split.train, split.test.take(np.arange(3))))
    with pytest.raises(
        Leakage, match="3 rows or subjects of the held-out data are in the training data too"
    ):
        check_split(PATIENTS, leaky, BY_PATIENT)


def test_a_lost_row_is_detected() -> None:
    split = split_of(PATIENTS)
    with pytest.raises(Leakage, match="together are not the rows of the dataset"):
        check_split(
            PATIENTS,
            replace(split, train=split.train.take(np.arange(5, len(split.train)))),
            BY_PATIENT,
        )


def test_an_imputation_before_the_split_is_detected() -> None:
    split = split_of(PATIENTS)
    imputer = SimpleImputer(strategy="mean").fit(PATIENTS.features)
    filled = replace(
        split.train, features=imputer.transform(split.train.features).astype(np.float32)
    )
    with pytest.raises(Leakage, match="they were transformed before the split"):
        check_split(PATIENTS, replace(split, train=filled), BY_PATIENT)


def test_an_imputer_fitted_on_all_rows_is_detected() -> None:
    task = declared_task("heart")
    (estimator,) = task.estimators(parse_parameters(task, {"C": "0.1"})).values()
    split = split_of(PATIENTS)
    honest = clone(estimator).fit(split.train.features, split.train.labels)
    check_fit(task, honest, split.train)

    preparation = clone(estimator)[:-1].fit(PATIENTS.features)
    classifier = LogisticRegression(C=0.1, max_iter=2000).fit(
        preparation.transform(split.train.features), split.train.labels
    )
    leaky = clone(estimator)
    leaky.steps = [*preparation.steps, ("logisticregression", classifier)]
    with pytest.raises(
        Leakage, match="a second fit on the training rows alone has other predictions"
    ):
        check_fit(task, leaky, split.train)


def test_an_estimator_fitted_on_held_out_rows_is_detected() -> None:
    task = declared_task("heart")
    (estimator,) = task.estimators(
        parse_parameters(task, {"estimator": "forest", "trees": "10"})
    ).values()
    with pytest.raises(Leakage):
        check_fit(
            task, clone(estimator).fit(PATIENTS.features, PATIENTS.labels), split_of(PATIENTS).train
        )


def test_duplicates_are_in_one_fold_of_a_cross_validation() -> None:
    """Use random labels, with which duplicates in two folds would raise the score of a forest."""
    random = np.random.default_rng(0)
    noise = Table.of(PATIENTS.features, random.integers(0, 2, len(PATIENTS)))
    task = declared_task("heart")
    parameters = parse_parameters(task, {"estimator": "forest", "trees": "30", "folds": "5"})
    (forest,) = task.estimators(parameters).values()
    found = cross_validate(task, forest, joined(noise, noise), parameters)
    assert np.mean(found["auc"]) < 0.65


RECORDS = np.arange(len(PATIENTS)) % 20
"""Numbers of twenty subjects."""


def test_all_rows_of_a_subject_are_in_one_part() -> None:
    table = Table.of(PATIENTS.features, PATIENTS.labels, groups=RECORDS.tolist())
    split = split_of(table)
    check_split(table, split, BY_PATIENT)
    assert len(np.unique(split.test.groups)) == 6
    assert not np.intersect1d(split.train.groups, split.test.groups).size


def test_held_out_subjects_do_not_depend_on_the_order_of_their_names() -> None:
    """Numbers of records are often ordered by year or by kind of patient."""
    table = Table.of(
        PATIENTS.features, PATIENTS.labels, groups=[f"{record:03d}" for record in RECORDS]
    )
    held_out = np.unique(split_of(table).test.groups).astype(int)
    assert held_out.min() < 10 <= held_out.max()


def test_a_subject_in_both_parts_is_detected() -> None:
    table = Table.of(PATIENTS.features, PATIENTS.labels, groups=RECORDS.tolist())
    shuffled = np.random.default_rng(0).permutation(len(table))
    leaky = Split(table.take(shuffled[90:]), table.take(shuffled[:90]), "rows at random")
    with pytest.raises(
        Leakage, match="20 rows or subjects of the held-out data are in the training"
    ):
        check_split(table, leaky, BY_PATIENT)


def test_a_class_of_few_subjects_is_in_both_parts() -> None:
    labels = np.where(
        np.isin(RECORDS, (3, 5, 7, 11)) & (np.arange(len(RECORDS)) % 3 == 0), 2, PATIENTS.labels
    )
    split = split_of(Table.of(PATIENTS.features, labels, groups=RECORDS.tolist()))
    assert 2 in split.train.labels
    assert 2 in split.test.labels


DAYS = np.datetime64("2026-01-01") + np.arange(120)
SALES = Table.of(np.random.default_rng(0).normal(size=(120, 3)), np.arange(120.0), times=DAYS)
LATER = ByTime(days=28, fold_days=14)


def test_the_last_days_are_held_out() -> None:
    split = LATER.hold_out(SALES, Quantity(), "day")
    check_split(SALES, split, LATER)
    assert split.test.times is not None
    assert split.test.times.min() == np.datetime64("2026-04-03")
    assert len(split.test) == 28
    assert "from 2026-04-03" in split.rule


def test_a_later_day_in_the_training_data_is_detected() -> None:
    split = LATER.hold_out(SALES, Quantity(), "day")
    leaky = Split(SALES.take(np.arange(20, 120)), SALES.take(np.arange(20)), split.rule)
    with pytest.raises(
        Leakage, match="training rows end on 2026-04-30, but the held-out data begin on 2026-01-01"
    ):
        check_split(SALES, leaky, LATER)


def test_each_fold_is_scored_on_days_after_those_that_it_was_fitted_on() -> None:
    folds = list(LATER.folds(SALES, Quantity(), 3, 0))
    assert len(folds) == 3
    for fitting, scoring in folds:
        assert DAYS[fitting].max() < DAYS[scoring].min()
        assert len(scoring) == 14


def test_rows_without_a_day_cannot_be_split_by_time() -> None:
    with pytest.raises(Leakage, match="the rows have no day"):
        LATER.hold_out(PATIENTS, Classes(2), "patient")


def test_the_digest_of_a_table_depends_on_subjects_and_days_but_not_on_the_order() -> None:
    order = np.random.default_rng(2).permutation(120)
    again = Table.of(
        SALES.features[order], SALES.labels[order], times=DAYS[SALES.labels[order].astype(int)]
    )
    assert again.digest == SALES.digest
    assert Table.of(SALES.features, SALES.labels).digest != SALES.digest
    assert (
        Table.of(SALES.features, SALES.labels, groups=["a"] * 120).digest
        != Table.of(SALES.features, SALES.labels).digest
    )
