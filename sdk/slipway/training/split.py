"""The split of a table into training and held-out rows, and the checks that no rows leak."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway.errors import Leakage, Unavailable, WrongParameter
from slipway.training.dataset import Table
from slipway.training.target import Fold, Target


@dataclass(frozen=True)
class Split:
    """Two parts of one table; ``rule`` describes the split in words."""

    train: Table
    test: Table
    rule: str


class Rule(Protocol):
    """A split by what is new in production: another subject, or a later day."""

    @property
    def column(self) -> str | None: ...

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:
        """Split the table; ``subject`` is the word for the owner of a group of rows."""

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:
        """Yield the folds of a cross-validation, split by the same rule."""

    def check(self, split: Split) -> None:
        """Raise Leakage when the held-out part shares data with the other, by this rule."""


@dataclass(frozen=True)
class BySubject:
    """Hold out ``share`` of the subjects of each class.

    Subjects are ordered by a hash of their names, or of their inputs where they have none. Thus the
    part is the same for all versions of a model, no row is chosen by its value, and all rows of a
    subject are in the same part.
    """

    share: float = 0.3
    column: str | None = None
    """Column of the subject in a data frame; it is no input. None: each row is its own."""

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:
        groups, group_of = np.unique(table.groups, return_inverse=True)
        stratum = _rarest(target.strata(table), group_of)
        place = (
            groups
            if _nameless(table)
            else np.array([hashlib.sha256(name).hexdigest() for name in groups.tolist()])
        )
        held = np.zeros(len(groups), dtype=bool)
        for value in np.unique(stratum):
            members = np.flatnonzero(stratum == value)
            members = members[np.argsort(place[members], kind="stable")]
            held[members[: round(self.share * len(members))]] = True
        if not held.any() or held.all():
            problem = "all rows" if held.any() else "no row"
            raise WrongParameter(
                f"share: {self.share:g} holds out {problem}, of {len(groups)} subjects; set a "
                "share between 0 and 1 that leaves subjects in both parts, or give more rows"
            )
        test = held[group_of]
        return Split(
            table.take(~test),
            table.take(test),
            self._description(table, subject, len(np.unique(stratum)) > 1),
        )

    def _description(self, table: Table, subject: str, balanced: bool) -> str:
        if _nameless(table):
            held = f"{self.share:.0%}{' of each class' if balanced else ''} held out"
            return (
                f"{held}, one {subject} per row, equal inputs in the same part, chosen by a hash "
                "of the inputs"
            )
        held = (
            f"{self.share:.0%} of the {subject}s held out, all rows of a {subject} in the same part"
        )
        return held + (", balanced by class" if balanced else "")

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:
        if parts > (subjects := len(np.unique(train.groups))):
            raise WrongParameter(
                f"folds: {parts} is more than the {subjects} training subjects; set fewer, or "
                "give more rows"
            )
        largest = np.unique(target.strata(train), return_counts=True)[1].max()
        if parts > largest:
            raise WrongParameter(
                f"folds: {parts} is more than the {largest} training rows of any class; set fewer"
            )
        return target.folds(train, parts, seed)

    def check(self, split: Split) -> None:
        if shared := np.intersect1d(split.train.groups, split.test.groups).size:
            raise Leakage(
                f"{shared} rows or subjects of the held-out data are in the training data too"
            )


@dataclass(frozen=True)
class ByTime:
    """Hold out the last ``days`` of the table.

    Each fold scores ``fold_days`` before these and is fitted on all days before its own.
    """

    days: int = 28
    fold_days: int = 14
    column: str | None = None
    """Column of the day in a data frame; it is no input."""

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:  # noqa: ARG002  # part of the protocol
        times = _times(table)
        first = times.max() - np.timedelta64(self.days - 1, "D")
        if times.min() >= first:
            raise Unavailable(
                f"the rows begin on {times.min()}; with those from {first} on held out, none "
                "is left for training"
            )
        rule = f"the last {self.days} days held out, from {first}; trained on the days before"
        return Split(table.take(times < first), table.take(times >= first), rule)

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:  # noqa: ARG002  # part of the protocol
        times = _times(train)
        for part in reversed(range(parts)):
            end = times.max() - np.timedelta64(part * self.fold_days, "D")
            start = end - np.timedelta64(self.fold_days, "D")
            fitting, scoring = (
                np.flatnonzero(times <= start),
                np.flatnonzero((times > start) & (times <= end)),
            )
            if not len(fitting) or not len(scoring):
                raise Leakage(
                    f"{parts} folds of {self.fold_days} days do not fit into the training "
                    "days; set fewer folds"
                )
            yield fitting, scoring

    def check(self, split: Split) -> None:
        last, first = _times(split.train).max(), _times(split.test).min()
        if last >= first:
            raise Leakage(f"training rows end on {last}, but the held-out data begin on {first}")


def check_split(table: Table, split: Split, rule: Rule) -> None:
    """Raise Leakage unless the parts are the table's own rows, unchanged and split by the rule."""
    rule.check(split)
    if changed := sum(
        hashed != stated for part in (split.train, split.test) for hashed, stated in _hashes(part)
    ):
        raise Leakage(
            f"{changed} rows differ from the dataset: they were transformed before the split"
        )
    together = np.sort(np.concatenate([split.train.keys, split.test.keys]))
    if not np.array_equal(together, np.sort(table.keys)):
        raise Leakage("the parts of the split together are not the rows of the dataset")


def _nameless(table: Table) -> bool:
    """Return whether each row is its own subject, identified by the hash of its inputs."""
    return np.array_equal(table.groups, table.keys)


def _rarest(values: NDArray[Any], group_of: NDArray[Any]) -> NDArray[Any]:
    """Return for each group [groups] its value that is rarest in the table.

    Both parts of a split then have rows of rare values.
    """
    known, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(known), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(known))
    highest = np.zeros(group_of.max() + 1, dtype=np.int64)
    np.maximum.at(highest, group_of, rank[position])
    return highest


def _times(table: Table) -> NDArray[Any]:
    if table.times is None:
        raise Leakage("the rows have no day, so they cannot be split by time")
    return table.times


def _hashes(part: Table) -> list[tuple[bytes, bytes]]:
    """Return for each row the hash of its current inputs and the hash from when it was loaded."""
    again = Table.of(part.features, part.labels)
    return list(zip(np.sort(again.keys).tolist(), np.sort(part.keys).tolist(), strict=True))
