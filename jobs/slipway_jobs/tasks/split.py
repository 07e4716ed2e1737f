"""The held-out part of a table, and the proof that it was held out."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slipway_jobs.data.dataset import Table
from slipway_jobs.errors import Leakage, Unavailable
from slipway_jobs.tasks.target import Fold, Target


@dataclass(frozen=True)
class Split:
    """Two parts of one table; ``rule`` says in words how they were parted."""

    train: Table
    test: Table
    rule: str


class Rule(Protocol):
    """By what will be new in production: another subject, or a later day."""

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:
        """Part the table; ``subject`` is the word for what a group of rows is of."""

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:
        """Parts of a cross-validation, parted by the same rule."""

    def check(self, split: Split) -> None:
        """Raise Leakage when the held-out part knows something of the other, by this rule."""


@dataclass(frozen=True)
class BySubject:
    """Hold out ``share`` of the subjects in each class.

    A subject's place follows from a hash of its name (of its inputs, where it has none), so the
    part is the same for every version of a model, no row is chosen by its value, and all rows of a
    subject are on the same side.
    """

    share: float = 0.3

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
        test = held[group_of]
        return Split(
            table.take(~test),
            table.take(test),
            self._words(table, subject, len(np.unique(stratum)) > 1),
        )

    def _words(self, table: Table, subject: str, balanced: bool) -> str:
        if _nameless(table):
            kept = (
                f"one {subject} a row, equal inputs kept together, chosen by a hash of the inputs"
            )
            return f"{self.share:.0%}{' of each class' if balanced else ''} held out, {kept}"
        together = (
            f"{self.share:.0%} of the {subject}s held out, all rows of a {subject} kept together"
        )
        return together + (", balanced by class" if balanced else "")

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:
        return target.folds(train, parts, seed)

    def check(self, split: Split) -> None:
        if shared := np.intersect1d(split.train.groups, split.test.groups).size:
            raise Leakage(
                f"{shared} rows or subjects of the held-out data have a twin in the training data"
            )


@dataclass(frozen=True)
class ByTime:
    """Hold out the last ``days`` of the table; folds score the weeks before these, each fitted on
    what came before it.
    """

    days: int = 28
    fold_days: int = 14

    def hold_out(self, table: Table, target: Target, subject: str) -> Split:  # noqa: ARG002  # the rule asks for no more
        times = _times(table)
        first = times.max() - np.timedelta64(self.days - 1, "D")
        if times.min() >= first:
            raise Unavailable(
                f"the rows begin on {times.min()}; with those from {first} on held out, none "
                "is left to learn from"
            )
        rule = f"the last {self.days} days held out, from {first}; trained on the days before"
        return Split(table.take(times < first), table.take(times >= first), rule)

    def folds(self, train: Table, target: Target, parts: int, seed: int) -> Iterator[Fold]:  # noqa: ARG002  # nothing is drawn
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
                    "days; ask for fewer folds"
                )
            yield fitting, scoring

    def check(self, split: Split) -> None:
        last, first = _times(split.train).max(), _times(split.test).min()
        if last >= first:
            raise Leakage(f"training rows reach to {last}, and the held-out data begin on {first}")


def check_split(table: Table, split: Split, rule: Rule) -> None:
    """Raise Leakage unless the parts are the table's own rows, untouched, and parted by the
    rule.
    """
    rule.check(split)
    if changed := sum(
        hashed != stated for part in (split.train, split.test) for hashed, stated in _hashes(part)
    ):
        raise Leakage(
            f"{changed} rows are not as they came from the dataset: something was fitted on "
            "them before the split"
        )
    together = np.sort(np.concatenate([split.train.keys, split.test.keys]))
    if not np.array_equal(together, np.sort(table.keys)):
        raise Leakage("the parts of the split are not, taken together, the rows of the dataset")


def _nameless(table: Table) -> bool:
    """Whether each row is a subject of its own, known by the hash of its inputs."""
    return np.array_equal(table.groups, table.keys)


def _rarest(values: NDArray[Any], group_of: NDArray[Any]) -> NDArray[Any]:
    """[groups]: of the values in a group, the one that is rarest in the table, so that both parts
    get some of it.
    """
    known, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.empty(len(known), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(known))
    highest = np.zeros(group_of.max() + 1, dtype=np.int64)
    np.maximum.at(highest, group_of, rank[position])
    return highest


def _times(table: Table) -> NDArray[Any]:
    if table.times is None:
        raise Leakage("the rows have no day, so they cannot be parted by time")
    return table.times


def _hashes(part: Table) -> list[tuple[bytes, bytes]]:
    """For each row: the hash of its inputs as they are now, and the one that it was given when it
    was loaded.
    """
    again = Table.of(part.features, part.labels)
    return list(zip(np.sort(again.keys).tolist(), np.sort(part.keys).tolist(), strict=True))
