"""Tables in the file formats of copies of the Cleveland table."""

from collections.abc import Sequence

import numpy as np
from slipway.training.dataset import Table

from tests.support.testdata import testdata

_PATIENT = testdata("patient")
HEADER = ",".join(_PATIENT)
PATIENT = tuple(_PATIENT.values())
"""A patient of the Cleveland table, num = 2."""

# The codes of the re-coded copy by those of the original; NaN has a code too.
_RECODED: dict[int, dict[float, float]] = {
    2: {4: 0, 2: 1, 3: 2, 1: 3},
    6: {2: 0, 0: 1, 1: 2},
    10: {3: 0, 2: 1, 1: 2},
    12: {6: 1, 3: 2, 7: 3},
}


def original(table: Table, label: str | None = "num") -> bytes:
    """Return the table as UCI's processed.cleveland.data: ``?`` for missing values, num 0 or 2.

    It has a header when the label has a name.
    """
    lines = [f"{HEADER},{label}"] if label else []
    for row, sick in zip(table.features, table.labels, strict=True):
        cells = ["?" if np.isnan(value) else f"{value:.1f}" for value in row]
        lines.append(",".join([*cells, str(2 * int(sick))]))
    return ("\n".join(lines) + "\n").encode()


def recoded(table: Table) -> bytes:
    """Return the table as heart.csv: renumbered codes and target 1 = no disease.

    Missing values are ca 4 and thal 0.
    """
    lines = [f"{HEADER},target"]
    for row, sick in zip(table.features, table.labels, strict=True):
        cells = [f"{_recode(position, float(value)):g}" for position, value in enumerate(row)]
        lines.append(",".join([*cells, str(1 - int(sick))]))
    return ("\n".join(lines) + "\n").encode()


def _recode(position: int, value: float) -> float:
    if np.isnan(value):
        return {11: 4, 12: 0}[position]
    return _RECODED.get(position, {}).get(round(value, 1), round(value, 1))


def with_cell(content: bytes, line: int, column: int, cell: str) -> bytes:
    """Return the file with one cell replaced; lines are counted from 1, columns from 0."""
    lines = content.decode().splitlines()
    cells: Sequence[str] = lines[line - 1].split(",")
    lines[line - 1] = ",".join([*cells[:column], cell, *cells[column + 1 :]])
    return "\n".join(lines).encode()
