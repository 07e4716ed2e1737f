"""Data frames: the inputs of a model signature inferred from them, and their rows by input.

A column is a number, a whole number, a boolean, a text, or a category. The ranges that a frame has
are described, not enforced: a version must answer for values that its training did not have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import (
    infer_dtype,
    is_bool_dtype,
    is_float_dtype,
    is_integer_dtype,
    is_object_dtype,
    is_string_dtype,
    union_categoricals,
)
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype, short

from slipway.errors import WrongParameter
from slipway.packaging.rows import Arrays, as_input

FEW = 100
"""Most categories that a signature lists; a column with more is a text or a number."""

PRECISION = 1e-6
"""Largest change of a number by FP32, as a share of the range of its column."""

_LARGEST = 2**63


def as_frame(table: Any, field: str) -> pd.DataFrame:
    """Return the table as a data frame with text names; an array has the names x0, x1, ….

    ``field`` is the parameter that it was given as. Raises WrongParameter.
    """
    if isinstance(table, np.ndarray) and table.ndim == 2:
        table = pd.DataFrame(table, columns=[f"x{index}" for index in range(table.shape[1])])
    if not isinstance(table, pd.DataFrame):
        raise WrongParameter(
            f"{field}: is a {type(table).__name__}; give a pandas.DataFrame with one column for "
            "each input"
        )
    if table.empty:
        raise WrongParameter(f"{field}: has no rows or no columns; give at least one row")
    for name in table.columns:
        if not isinstance(name, str) or not name:
            raise WrongParameter(
                f"{field}: the column name {short(name)} is not a text; rename the columns and fit "
                "the model again"
            )
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise WrongParameter(f"{field}: the column {twice!r} occurs twice; rename one of them")
    return table


def fitted_columns(names: Sequence[str], frame: pd.DataFrame, field: str) -> pd.DataFrame:
    """Return the columns that a model takes, in that order; all, if it has no names.

    Raises WrongParameter.
    """
    names = names or list(frame.columns)
    for name in names:
        if name not in frame.columns:
            raise WrongParameter(
                f"{field}: has no column {name!r}, which the model was fitted on; give all of "
                f"{', '.join(names)}"
            )
    for name in frame.columns:
        if name not in names:
            raise WrongParameter(
                f"{field}: the model was not fitted on the column {name!r}; leave it out"
            )
    return frame[list(names)]


def infer_inputs(frames: Mapping[str, pd.DataFrame]) -> tuple[Column, ...]:
    """Return a column for each column of the data frames, which are given by parameter.

    The first frame has the order of the columns; the others have the same columns. A value may be
    missing if any frame has a missing one. Raises WrongParameter.
    """
    (first, leading), *others = frames.items()
    for field, frame in others:
        if differing := set(leading.columns) ^ set(frame.columns):
            raise WrongParameter(
                f"{field}: the column {min(differing)!r} is in only one of {first} and {field}; "
                "give the same columns in both"
            )
    return tuple(
        _infer(first, name, _gathered([frame[name] for frame in frames.values()]))
        for name in leading.columns
    )


def frame_rows(frame: pd.DataFrame, inputs: Sequence[Column]) -> Arrays:
    """Return the rows [rows] by input in its datatype: NaN, or the empty text, is missing.

    Raises WrongParameter for a missing column, and for a value that does not fit.
    """
    for column in inputs:
        if column.name not in frame.columns:
            raise WrongParameter(f"{column.name}: is not a column of the rows; add it")
    return {column.name: _values(frame[column.name], column) for column in inputs}


def _gathered(parts: list[pd.Series]) -> pd.Series:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        try:
            return pd.Series(union_categoricals([part.array for part in parts]), name=parts[0].name)
        except TypeError:  # categories of different types; they are reported as mixed
            parts = [part.astype(object) for part in parts]
    return pd.concat(parts, ignore_index=True)


def _infer(field: str, name: str, series: pd.Series) -> Column:
    missing = bool(series.isna().any())
    if series.isna().all():
        if is_float_dtype(series.dtype):
            return Column(name=name, datatype=Datatype.FP32, missing=True)
        raise WrongParameter(f"{field}: {name}: has no value; leave the column out")
    if missing and bool((series == "").any()):
        raise WrongParameter(
            f"{field}: {name}: has missing values and empty texts, which are the same in a "
            f"request; write frame[{name!r}] = frame[{name!r}].replace('', None), and fit again"
        )
    if isinstance(series.dtype, pd.CategoricalDtype):
        return _categories(field, name, series, missing=missing)
    if is_bool_dtype(series.dtype) or _holds(series, "boolean"):
        return _booleans(name, missing=missing)
    if is_integer_dtype(series.dtype):
        return _whole(field, name, series, missing=missing)
    if is_float_dtype(series.dtype):
        return _number(field, name, series, missing=missing)
    if (is_object_dtype(series.dtype) or is_string_dtype(series.dtype)) and _holds(
        series, "string"
    ):
        return Column(name=name, datatype=Datatype.BYTES, missing=missing)
    raise WrongParameter(f"{field}: {name}: {_problem(name, series)}")


def _holds(series: pd.Series, kind: str) -> bool:
    return bool(infer_dtype(series, skipna=True) == kind)


def _problem(name: str, series: pd.Series) -> str:
    kind = infer_dtype(series, skipna=True)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return (
            f"has numbers as {series.dtype}; write frame[{name!r}] = "
            f"pandas.to_numeric(frame[{name!r}])"
        )
    if kind.startswith(("date", "time", "period", "interval")):
        return (
            f"has the type {series.dtype}, which a request cannot have; derive numbers from it, "
            "such as the month, before the model"
        )
    types = ", ".join(sorted({type(value).__name__ for value in series.dropna()})[:5])
    return (
        f"has values of the types {types}; one type is expected: write "
        f"frame[{name!r}] = frame[{name!r}].astype(str), or leave the column out"
    )


def _booleans(name: str, *, missing: bool) -> Column:
    if not missing:
        return Column(name=name, datatype=Datatype.BOOL)
    return Column(name=name, datatype=Datatype.FP32, codes={0: "false", 1: "true"}, missing=True)


def _whole(field: str, name: str, series: pd.Series, *, missing: bool) -> Column:
    low, high = int(series.min()), int(series.max())
    if max(abs(low), abs(high)) >= _LARGEST:
        raise WrongParameter(
            f"{field}: {name}: has {high}, which does not fit INT64; leave the column out, or "
            "convert it to text"
        )
    return Column(
        name=name,
        datatype=Datatype.FP64 if missing else Datatype.INT64,
        description=f"training: {low} to {high}",
        missing=missing,
    )


def _number(field: str, name: str, series: pd.Series, *, missing: bool) -> Column:
    values = series.dropna().to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise WrongParameter(
            f"{field}: {name}: has infinite values, which a request cannot have; replace them by "
            "numbers or by missing values"
        )
    with np.errstate(over="ignore"):
        change = np.abs(values.astype(np.float32).astype(np.float64) - values).max()
    exact = change <= PRECISION * float(np.ptp(values)) or change == 0
    return Column(
        name=name,
        datatype=Datatype.FP32 if exact else Datatype.FP64,
        description=f"training: {values.min():.6g} to {values.max():.6g}",
        missing=missing,
    )


def _categories(field: str, name: str, series: pd.Series, *, missing: bool) -> Column:
    known = series.cat.categories
    if _holds(known.to_series(), "string"):
        texts = tuple(map(str, known))
        if "" in texts:
            raise WrongParameter(
                f"{field}: {name}: has the empty text as a category; rename it, or make it missing"
            )
        listed = texts if len(texts) <= FEW else None
        return Column(name=name, datatype=Datatype.BYTES, categories=listed, missing=missing)
    if is_bool_dtype(known.dtype):
        return _booleans(name, missing=missing)
    if not is_integer_dtype(known.dtype):
        raise WrongParameter(
            f"{field}: {name}: has categories of the type {known.dtype}; whole numbers and texts "
            "can be categories"
        )
    codes = {int(code): str(code) for code in known} if len(known) <= FEW else None
    datatype = Datatype.FP64 if missing else Datatype.INT64
    return Column(name=name, datatype=datatype, codes=codes, missing=missing)


def _values(series: pd.Series, column: Column) -> NDArray[Any]:
    if column.shape:
        return _tensors(series, column)
    if column.datatype is Datatype.BYTES:
        texts = series.astype(object)
        found = texts.where(texts.notna(), "").to_numpy(dtype=object)
        if wrong := [each for each in found if not isinstance(each, str)]:
            raise _misfit(column, f"{short(wrong[0])} is not a text")
        return found
    plain = series.astype(object) if series.dtype == "category" else series
    try:
        if column.datatype.is_float:
            return plain.to_numpy(dtype=np.float64, na_value=np.nan).astype(column.datatype.dtype)
        given = plain.to_numpy()
        found = plain.to_numpy(dtype=column.datatype.dtype)
        exact = found.astype(given.dtype) if given.dtype.kind in "iuf" else found
        changed = np.flatnonzero(np.asarray(given != exact, dtype=bool))
    except (TypeError, ValueError, OverflowError) as error:
        raise _misfit(column, str(error)) from None
    if changed.size:
        raise _misfit(column, f"{short(given[changed[0]])} is not such a value")
    return found


def _tensors(series: pd.Series, column: Column) -> NDArray[Any]:
    """Return the arrays in the cells as [rows, *shape]; a cell may have its values in a row."""
    cells = []
    for cell in series:
        try:
            (found,) = as_input(column, cell)
        except (TypeError, ValueError, OverflowError) as error:
            raise _misfit(
                column, f"an array of {list(column.shape)} values is expected: {error}"
            ) from None
        cells.append(found)
    return np.stack(cells)


def _misfit(column: Column, problem: str) -> WrongParameter:
    return WrongParameter(
        f"{column.name}: does not fit {column.datatype}: {problem}; give values of the type that "
        "the model was fitted on"
    )


def describe(inputs: Sequence[Column], outputs: Sequence[Column]) -> str:
    """Return the columns of a signature as lines for the user."""
    width = max(len(column.name) for column in (*inputs, *outputs))
    return "\n".join(
        [
            *(f"input   {column.name:<{width}}  {_summary(column)}" for column in inputs),
            *(f"output  {column.name:<{width}}  {_summary(column)}" for column in outputs),
        ]
    )


def _summary(column: Column) -> str:
    parts = [_kind(column), column.description]
    if column.classes:
        parts.append(f"of {', '.join(column.classes)}")
    parts.append("may be missing" if column.missing else "")
    return "; ".join(part for part in parts if part)


def _kind(column: Column) -> str:
    if column.categories:
        return f"category: {', '.join(column.categories)}"
    if column.codes:
        named = (
            code if str(code) == text else f"{code} = {text}" for code, text in column.codes.items()
        )
        return f"category: {', '.join(map(str, named))}"
    kind = {Datatype.BYTES: "text", Datatype.BOOL: "boolean"}.get(column.datatype, "")
    kind = kind or ("whole number" if column.datatype.is_integer else "number")
    return f"{kind} ({column.datatype})" + (f" {list(column.shape)}" if column.shape else "")
