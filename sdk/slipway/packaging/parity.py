"""Parity: the comparison of a model's outputs with expected outputs, row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.errors import DifferentOutputs

Arrays = Mapping[str, NDArray[Any]]

TOLERANCE = 1e-4
"""Largest difference of a probability between graph and estimator.

For quantities above 1 it is relative to their size.
"""

TIE = 1e-6
"""Probabilities closer than this are equal in FP32, the precision of the graph."""


@dataclass(frozen=True)
class Parity:
    """The result of a comparison."""

    against: str
    rows: int
    differences: Mapping[str, float]
    """Largest difference by output.

    Values above 1 are compared relatively; of labels and texts it is the number that differ.
    """
    labels: frozenset[str] = frozenset()
    """Outputs that are labels or texts."""

    def as_json(self) -> dict[str, Any]:
        return {
            "against": self.against,
            "rows": self.rows,
            "differences": dict(self.differences),
        }

    def sentence(self) -> str:
        """Return the result as a sentence of the model card."""
        apart = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        return f"compared with {self.against} on {self.rows} rows; largest difference: {apart}"


def compare(given: Arrays, expected: Arrays, tolerance: float, against: str) -> Parity:
    """Compare outputs [rows, *shape] by name.

    Raises DifferentOutputs with the first output that differs by more than ``tolerance``.
    """
    differences = {}
    for name, target in expected.items():
        found = given[name].reshape(target.shape)
        apart, most = _apart(found, target), tolerance if target.dtype.kind == "f" else 0
        worst = apart.reshape(len(target), -1).max(axis=1)
        if not (worst <= most).all():
            row = int(np.argmax(~(worst <= most)))
            raise DifferentOutputs(
                f"parity is broken: output {name!r} of row {row} is {_short(found[row])}; "
                f"{against} has {_short(target[row])} "
                f"({int((~(worst <= most)).sum())} of {len(target)} rows differ by more than "
                f"{most:g})"
            )
        differences[name] = (
            float(worst.max()) if target.dtype.kind == "f" else float((worst > 0).sum())
        )
    labels = frozenset(name for name, target in expected.items() if target.dtype.kind != "f")
    return Parity(against, len(next(iter(expected.values()))), differences, labels)


def joined(parts: Sequence[Parity]) -> Parity:
    """Return the result of all comparisons: the largest difference of numbers, and all labels."""
    first, *others = parts
    differences = dict(first.differences)
    for part in others:
        for name, value in part.differences.items():
            differences[name] = (
                differences[name] + value if name in first.labels else max(differences[name], value)
            )
    return Parity(first.against, sum(part.rows for part in parts), differences, first.labels)


def _apart(found: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    if target.dtype.kind != "f":
        return np.asarray(found != target, np.float64)
    left, right = found.astype(np.float64), target.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of two infinities
        apart = np.abs(left - right) / np.maximum(1, np.abs(right))
    return np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0, apart)


def _short(value: NDArray[Any]) -> str:
    return str(np.asarray(value).reshape(-1)[:4].tolist())
