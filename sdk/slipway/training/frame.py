"""The table of a task that declares ``data``: its data frame, checked and in a fixed order."""

from typing import Any

import numpy as np
import pandas as pd
from slipway_contract.v2 import short

from slipway.errors import Unavailable, WrongParameter
from slipway.packaging.frames import as_frame
from slipway.training.dataset import Dataset, Loaded, SourceKind, Table
from slipway.training.split import ByTime
from slipway.training.target import Classes
from slipway.training.task import Task


def load_frame(task: Task) -> Loaded:
    """Call the task's ``data`` and return its table.

    The columns of target and split are no features. Raises Unavailable for any error of the
    function, and WrongParameter for a data frame that does not fit the task.
    """
    source = f"{task.data.__module__}:{task.data.__qualname__}" if task.data else ""
    frame = as_frame(_called(task, source), source)
    target, by = task.target.column, task.split.column
    for column in (target, by):
        if column is not None and column not in frame.columns:
            raise WrongParameter(
                f"{source}: has no column {column!r}; its columns are {', '.join(frame.columns)}"
            )
        if column is not None and frame[column].isna().any():
            raise WrongParameter(
                f"{source}: {int(frame[column].isna().sum())} values of {column!r} are missing; "
                "leave out these rows"
            )
    by_time = isinstance(task.split, ByTime)
    if by_time and by is None:
        raise WrongParameter(f"task {task.name}: its split has no column; give ByTime(column=…)")
    labels, classes = _labels(task, frame[target], source)
    features = frame.drop(columns=list({target, by} - {None})).reset_index(drop=True)
    if not len(features.columns):
        raise WrongParameter(f"{source}: has no column besides {target!r}; give the inputs")
    table = Table.of(
        features,
        labels,
        groups=frame[by].tolist() if by and not by_time else None,
        times=_days(frame[by], source) if by_time else None,
        classes=classes,
    )
    entry = Dataset(
        name=task.name, title=f"Rows of {source}", source=source, licence="not declared",
        citation="not declared", subject=by if by and not by_time else "row",
    )  # fmt: skip
    return Loaded(entry, table, SourceKind.PACKAGE)


def _called(task: Task, source: str) -> Any:
    try:
        return task.data() if task.data else None
    except Exception as error:
        raise Unavailable(
            f"the rows of task {task.name} are not available: {source} failed: "
            f"{type(error).__name__}: {error}"
        ) from error


def _labels(task: Task, values: pd.Series, source: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the labels [rows], and the classes in the order of scikit-learn's."""
    if not isinstance(task.target, Classes):
        try:
            numbers = values.to_numpy(np.float64)
        except (TypeError, ValueError):
            raise WrongParameter(
                f"{source}: {values.name!r} has {short(values.iloc[0])}, which is not a number; "
                f"the target of task {task.name} is a quantity"
            ) from None
        if not np.isfinite(numbers).all():
            raise WrongParameter(
                f"{source}: {int((~np.isfinite(numbers)).sum())} values of {values.name!r} are "
                "infinite; leave out these rows"
            )
        return numbers, ()
    given = values.tolist()
    # NumPy would convert a number beside a text to a text.
    kinds = sorted(set(map(_kind, given)))
    if len(kinds) > 1 or kinds[0] not in ("boolean", "number", "text"):
        raise WrongParameter(
            f"{source}: {values.name!r} has values of the types {', '.join(kinds)}; give texts, "
            "numbers or booleans, all of one type"
        )
    classes, codes = np.unique(np.asarray(given), return_inverse=True)
    if classes.dtype.kind in "bf" and (classes == classes.astype(np.int64)).all():
        classes = classes.astype(np.int64)  # the datatype of the served label
    if len(classes) != task.target.count:
        known = ", ".join(map(short, classes.tolist()[:10]))
        raise WrongParameter(
            f"{source}: {values.name!r} has {len(classes)} classes ({known}); task {task.name} "
            f"declares {task.target.count}"
        )
    return codes, tuple(classes.tolist())


def _kind(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.number):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _days(values: pd.Series, source: str) -> Any:
    try:
        days = pd.to_datetime(values, format="ISO8601")
        # The local day: NumPy would convert it to that of UTC.
        return days.dt.tz_localize(None).to_numpy().astype("datetime64[D]")
    except (AttributeError, TypeError, ValueError) as error:
        raise WrongParameter(
            f"{source}: {values.name!r} has a value that is no day: {error}"
        ) from None
