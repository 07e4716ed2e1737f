"""Whether a model says what it should: compared with outputs that are expected, row by row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway_jobs.errors import Refused

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Parity:
    """What was compared, and how far it is apart."""

    against: str
    rows: int
    differences: Mapping[str, float]
    """By output: the largest difference of a value, as a part of its size where that is above 1; of
    labels and texts, how many differ.
    """

    def sentence(self) -> str:
        """For people."""
        apart = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        return f"compared with {self.against} on {self.rows} rows; largest difference: {apart}"


def compare(given: Arrays, expected: Arrays, tolerance: float, against: str) -> Parity:
    """Both by output, [rows, *shape]. Raises Refused naming the first output that differs by more
    than ``tolerance``.
    """
    differences = {}
    for name, wanted in expected.items():
        found = given[name].reshape(wanted.shape)
        apart, most = _apart(found, wanted), tolerance if wanted.dtype.kind == "f" else 0
        worst = apart.reshape(len(wanted), -1).max(axis=1)
        if not (worst <= most).all():
            row = int(np.argmax(~(worst <= most)))
            raise Refused(
                f"parity is broken: output {name!r} of row {row} is {_short(found[row])}; "
                f"{against} says {_short(wanted[row])} "
                f"({int((~(worst <= most)).sum())} of {len(wanted)} rows differ by more than "
                f"{most:g})"
            )
        differences[name] = (
            float(worst.max()) if wanted.dtype.kind == "f" else float((worst > 0).sum())
        )
    return Parity(against, len(next(iter(expected.values()))), differences)


def _apart(found: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    if wanted.dtype.kind != "f":
        return np.asarray(found != wanted, np.float64)
    left, right = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of two infinities
        apart = np.abs(left - right) / np.maximum(1, np.abs(right))
    return np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0, apart)


def _short(value: NDArray[Any]) -> str:
    return str(np.asarray(value).reshape(-1)[:4].tolist())
