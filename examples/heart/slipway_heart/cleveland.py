"""The Cleveland heart disease table: its columns, and a reader of both codings of its copies.

Columns and codes: heart-disease.names in the UCI repository (Janosi, Steinbrunn, Pfisterer, Detrano
1989).
"""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from slipway.errors import CorruptTable, InvalidInput
from slipway.training import Column, Datatype
from slipway.training.dataset import Table

_YES_NO = {0: "no", 1: "yes"}


def _column(
    name: str,
    description: str,
    unit: str | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Column:
    # Age is always known. Bounds are wider than any living patient's values and reject wrong units
    # and misplaced decimal points.
    return Column(
        name=name,
        datatype=Datatype.FP32,
        description=description,
        unit=unit,
        minimum=low,
        maximum=high,
        missing=name != "age",
    )


def _codes(name: str, description: str, codes: Mapping[int, str]) -> Column:
    return Column(
        name=name,
        datatype=Datatype.FP32,
        description=description,
        codes=dict(codes),
        missing=name != "sex",
    )


COLUMNS = (
    _column("age", "age", "a", 1, 120),
    _codes("sex", "sex", {0: "female", 1: "male"}),
    _codes(
        "cp",
        "chest pain",
        {1: "typical angina", 2: "atypical angina", 3: "non-anginal pain", 4: "asymptomatic"},
    ),
    _column("trestbps", "resting blood pressure on admission", "mm[Hg]", 50, 300),
    _column("chol", "serum cholesterol", "mg/dL", 50, 1000),
    _codes("fbs", "fasting blood sugar above 120 mg/dL", _YES_NO),
    _codes(
        "restecg",
        "resting ECG",
        {0: "normal", 1: "ST-T wave abnormality", 2: "left ventricular hypertrophy"},
    ),
    _column("thalach", "highest heart rate in the exercise test", "/min", 40, 250),
    _codes("exang", "angina by exercise", _YES_NO),
    _column("oldpeak", "ST depression by exercise, relative to rest", "mm", -5, 10),
    _codes("slope", "slope of the peak exercise ST segment", {1: "up", 2: "flat", 3: "down"}),
    _codes(
        "ca", "major vessels coloured by fluoroscopy", {0: "none", 1: "one", 2: "two", 3: "three"}
    ),
    _codes("thal", "thallium scan", {3: "normal", 6: "fixed defect", 7: "reversible defect"}),
)
_NAMES = [column.name for column in COLUMNS]

# The re-coded copy (`heart.csv`, last column `target`) has the same patients with renumbered codes,
# missing values as `ca` 4 and `thal` 0, and the label inverted: its target 1 means NO disease. A
# row-by-row match with the original shows it: 302 of 303 patients are equal under this map.
_RECODED: dict[str, dict[float, float]] = {
    "cp": {0: 4, 1: 2, 2: 3, 3: 1},
    "restecg": {0: 2, 1: 0, 2: 1},
    "slope": {0: 3, 1: 2, 2: 1},
    "ca": {0: 0, 1: 1, 2: 2, 3: 3, 4: np.nan},
    "thal": {0: np.nan, 1: 6, 2: 3, 3: 7},
}


def read_cleveland(content: bytes, name: str) -> Table:
    """Read the table from a copy in either coding, with or without a header.

    Returns the original coding, label 1 for disease (``num`` above 0). Raises CorruptTable with
    line and column.
    """
    rows = _rows(content, name)
    recoded = _is_recoded([cells[12] for _, cells in rows])
    features, labels = [], []
    for line, cells in rows:
        values = [
            _number(cell, f"{name} line {line}, column {column}")
            for cell, column in zip(cells, [*_NAMES, "num"], strict=True)
        ]
        features.append(_inputs(values[:13], recoded, f"{name} line {line}"))
        labels.append(_disease(values[13], recoded, f"{name} line {line}, column num"))
    return Table.of(np.array(features), np.array(labels))


def _rows(content: bytes, name: str) -> list[tuple[int, list[str]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptTable(f"{name}: byte {error.start} is not text in UTF-8") from None
    reader = csv.reader(io.StringIO(text), strict=True)
    rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    if rows and rows[0][1][0].casefold() == _NAMES[0]:
        _check_header(rows.pop(0)[1], name)
    if not rows:
        raise CorruptTable(f"{name}: has no rows")
    for line, cells in rows:
        if len(cells) != 14:
            raise CorruptTable(f"{name} line {line}: has {len(cells)} columns; 14 are expected")
    return rows


def _check_header(header: Sequence[str], name: str) -> None:
    for position, (found, wanted) in enumerate(zip(header, _NAMES, strict=False), start=1):
        if found.casefold() != wanted:
            raise CorruptTable(
                f"{name} line 1, column {position}: is {found!r}; {wanted!r} is expected"
            )


def _is_recoded(thal: Sequence[str]) -> bool:
    """Return whether the coding is that of the copy, by ``thal``.

    6 and 7 occur in the original only, 0 to 2 in the copy only.
    """
    digits = [cell.removesuffix(".0") for cell in thal]
    return sum(d in ("0", "1", "2") for d in digits) > sum(d in ("6", "7") for d in digits)


def _number(cell: str, where: str) -> float:
    if cell == "?":
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        raise CorruptTable(
            f"{where}: {cell!r} is not a number; write ? for a missing value"
        ) from None
    if not np.isfinite(value):
        raise CorruptTable(f"{where}: {cell!r} is not a finite number; write ? for a missing value")
    return value


def _inputs(values: list[float], recoded: bool, where: str) -> list[float]:
    for position, column in enumerate(COLUMNS):
        value = values[position]
        if recoded and column.name in _RECODED:
            if value not in _RECODED[column.name]:
                raise CorruptTable(
                    f"{where}, column {column.name}: {value:g} is not a code of the re-coded copy"
                )
            values[position] = value = _RECODED[column.name][value]
        try:
            column.check_values([value])
        except InvalidInput as error:
            raise CorruptTable(f"{where}, column {error.field}: {error.problem}") from None
    return values


def _disease(value: float, recoded: bool, where: str) -> int:
    codes = (0, 1) if recoded else (0, 1, 2, 3, 4)
    if value not in codes:
        raise CorruptTable(f"{where}: {value:g} is not one of {', '.join(map(str, codes))}")
    return int(value == 0) if recoded else int(value > 0)
