"""Confusion matrices: of all held-out rows, and of each slice in which a model could be worse."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from slipway.training.dataset import Labels, Table
from slipway.training.target import Classes
from slipway.training.task import Task

ALL = "all"


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix, ``counts[true, predicted]`` in rows; ``classes`` are the names."""

    classes: Sequence[str]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, classes: Sequence[str], truth: Labels, predicted: Labels) -> Self:
        counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(counts, (truth, predicted), 1)
        return cls(classes, counts)

    @property
    def recall(self) -> dict[str, float]:
        """Recall of each class that occurs: the share of its rows that are predicted correctly."""
        rows = self.counts.sum(axis=1)
        return {
            name: float(self.counts[k, k] / rows[k])
            for k, name in enumerate(self.classes)
            if rows[k]
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": int(self.counts.sum()),
            "recall": self.recall,
            "counts": self.counts.tolist(),
        }


def confusions(task: Task, table: Table, predicted: Labels) -> dict[str, Confusion]:
    """Return the confusion matrices of all rows and of each slice, such as ``sex female``.

    ``predicted`` are labels [rows]. The result is empty for a model that predicts a quantity.
    """
    if not isinstance(task.target, Classes):
        return {}
    codes = task.signature.outputs[0].codes or {}
    classes = [codes.get(label, str(label)) for label in range(task.target.count)]
    groups: Mapping[str, NDArray[np.bool_]] = {
        ALL: np.ones(len(table), dtype=bool),
        **dict(_slices(task, table)),
    }
    return {
        name: Confusion.of(classes, table.labels[rows], predicted[rows])
        for name, rows in groups.items()
    }


def _slices(task: Task, table: Table) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    feeds = task.feeds(table.features)
    for column in task.signature.inputs:
        if column.name in task.slices:
            for code, meaning in (column.codes or {}).items():
                yield f"{column.name} {meaning}", feeds[column.name].ravel() == code


def recall_metrics(found: Mapping[str, Confusion]) -> dict[str, float]:
    """Return recall by MLflow metric name: ``recall_disease``, ``recall_disease.sex_female``."""
    return {
        f"recall_{_plain(name)}" + ("" if group == ALL else f".{_plain(group)}"): value
        for group, confusion in found.items()
        for name, value in confusion.recall.items()
    }


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
