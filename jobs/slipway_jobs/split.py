"""The held-out part of a table, and the proof that it was held out."""

from dataclasses import dataclass

import numpy as np

from slipway_jobs.dataset import Table
from slipway_jobs.errors import Leakage


@dataclass(frozen=True)
class Split:
    """Two parts of one table; ``rule`` says in words how they were parted."""

    train: Table
    test: Table
    rule: str


def hold_out(table: Table, share: float, subject: str) -> Split:
    """Hold out ``share`` of each class.

    A row's place follows from a hash of its inputs, so the part is the same for every version of a model, no row
    is chosen by its value, and rows with equal inputs (copies of one subject) are on the same side.
    """
    groups, first, group_of = np.unique(table.keys, return_index=True, return_inverse=True)
    held = np.zeros(len(groups), dtype=bool)
    for label in np.unique(table.labels):
        # A group counts for the class of its first row: the same inputs can bear two labels.
        members = np.flatnonzero(table.labels[first] == label)
        held[members[: round(share * len(members))]] = True
    test = held[group_of]
    rule = f"{share:.0%} of each class held out, one {subject} a row, equal inputs kept together, chosen by a hash of the inputs"
    return Split(table.take(~test), table.take(test), rule)


def check_split(table: Table, split: Split) -> None:
    """Raise Leakage unless the parts are the table's own rows, untouched, and no input is in both."""
    if shared := np.intersect1d(split.train.keys, split.test.keys).size:
        raise Leakage(f"{shared} rows of the held-out data have a twin in the training data")
    if changed := sum(hashed != stated for part in (split.train, split.test) for hashed, stated in _hashes(part)):
        raise Leakage(f"{changed} rows are not as they came from the dataset: something was fitted on them before the split")
    together = np.sort(np.concatenate([split.train.keys, split.test.keys]))
    if not np.array_equal(together, np.sort(table.keys)):
        raise Leakage("the parts of the split are not, taken together, the rows of the dataset")


def _hashes(part: Table) -> list[tuple[bytes, bytes]]:
    """For each row: the hash of its inputs as they are now, and the one that it was given when it was loaded."""
    again = Table.of(part.features, part.labels)
    return list(zip(np.sort(again.keys).tolist(), np.sort(part.keys).tolist(), strict=True))
