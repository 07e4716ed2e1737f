"""Encoders that raise an error for unknown values, which their ONNX graph answers.

The inputs of a model signature list the fitted values of such encoders, so that serving rejects
the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway.errors import NotConvertible
from slipway.packaging.frames import FEW

_ENCODERS = (OneHotEncoder, OrdinalEncoder)

Names = list[str] | None
"""The input of each value that a step takes; None when a step before has changed the values."""


@dataclass(frozen=True)
class _Encoded:
    """An input whose unknown values an encoder rejects."""

    name: str
    values: frozenset[Any]
    missing: bool
    """Whether the encoder accepts a missing value."""


def with_fitted_values(fitted: Any, inputs: Sequence[Column]) -> tuple[Column, ...]:
    """Return the inputs with the values that the estimator's encoders accept.

    An input stays as it is when a signature cannot list its values.
    """
    found: dict[str, frozenset[Any]] = {}
    for each in _encoded(fitted, _fitted_names(fitted, inputs)) or ():
        found[each.name] = found.get(each.name, each.values) & each.values
    return tuple(
        _listed(column, found[column.name]) if column.name in found else column for column in inputs
    )


def check_encoders(fitted: Any, signature: Signature) -> None:
    """Raise NotConvertible when the signature accepts a value that an encoder rejects."""
    encoded = _encoded(fitted, _fitted_names(fitted, signature.inputs))
    if encoded is None:
        raise NotConvertible(
            "an encoder after another step has handle_unknown='error', which a graph does not "
            f"have; {_REMEDY}"
        )
    columns = {column.name: column for column in signature.inputs}
    for each in encoded:
        column = columns[each.name]
        accepted = {False, True} if column.datatype is Datatype.BOOL else None
        listed = column.categories or column.codes or accepted
        if not listed or not each.values >= set(listed) or (column.missing and not each.missing):
            raise NotConvertible(
                f"the encoder of {each.name!r} has handle_unknown='error', which a graph does not "
                f"have, and the signature accepts values that it rejects; {_REMEDY}"
            )


_REMEDY = "to have a graph, fit it with handle_unknown='ignore' or 'use_encoded_value'"


def _listed(column: Column, values: frozenset[Any]) -> Column:
    if len(values) > FEW or column.shape or not values:
        return column
    if column.datatype is Datatype.BYTES:
        if "" in values or not all(isinstance(value, str) for value in values):
            return column
        order = [text for text in column.categories or sorted(values) if text in values]
        return column.model_copy(update={"categories": tuple(order)})
    if column.datatype is Datatype.BOOL or any(value != int(value) for value in values):
        return column
    known = column.codes or {}
    codes = {code: known.get(code, str(code)) for code in sorted(map(int, values))}
    return column.model_copy(update={"codes": codes})


def _fitted_names(fitted: Any, inputs: Sequence[Column]) -> list[str]:
    """Return the input of each value that the estimator takes."""
    names = [str(name) for name in getattr(fitted, "feature_names_in_", ())]
    return names or [column.name for column in inputs for _ in range(element_count(column.shape))]


def _encoded(fitted: Any, names: list[str]) -> list[_Encoded] | None:
    """Return the inputs of all encoders; None when one encodes values that are not inputs."""
    found = list(_walk(fitted, names, filled=False))
    if any(each is None for each in found):
        return None
    parts = [fitted, *fitted.get_params(deep=True).values()]
    if not found and any(map(_rejects, parts)):  # inside of a step that is not known here
        return None
    return [each for each in found if each]


def _rejects(part: Any) -> bool:
    return isinstance(part, _ENCODERS) and part.handle_unknown == "error"


def _walk(step: Any, names: Names, *, filled: bool) -> Iterator[_Encoded | None]:
    """Yield the inputs of each encoder. ``filled`` is whether missing values were imputed."""
    if isinstance(step, _ENCODERS):
        if _rejects(step):
            yield from _inputs(step, names, filled=filled)
    elif isinstance(step, Pipeline):
        for _, inner in step.steps:
            yield from _walk(inner, names, filled=filled)
            names, filled = _after(inner, names), filled or isinstance(inner, SimpleImputer)
    elif isinstance(step, ColumnTransformer):
        for _, inner, selected in getattr(step, "transformers_", ()):
            if isinstance(inner, BaseEstimator):
                yield from _walk(inner, _selected(names, selected), filled=filled)
    else:
        for inner in _fitted_parts(step):
            yield from _walk(inner, names, filled=filled)


def _inputs(encoder: Any, names: Names, *, filled: bool) -> Iterator[_Encoded | None]:
    if names is None or len(names) != len(getattr(encoder, "categories_", ())):
        yield None
        return
    for name, categories in zip(names, encoder.categories_, strict=True):
        values = np.asarray(categories).tolist()
        present = frozenset(value for value in values if not pd.isna(value))
        yield _Encoded(name, present, filled or len(present) < len(values))


def _after(step: Any, names: Names) -> Names:
    """Return the names after a step of a pipeline."""
    if step is None or isinstance(step, str):
        return names
    if isinstance(step, FunctionTransformer) and step.func is None:
        return names
    if isinstance(step, SimpleImputer) and not step.add_indicator and pd.isna(step.missing_values):
        return names
    return None


def _selected(names: Names, selected: Any) -> Names:
    """Return the names of a ColumnTransformer's columns: names, positions, a slice or a mask."""
    if names is None:
        return None
    if isinstance(selected, str | int):
        selected = [selected]
    frame = pd.DataFrame(columns=names)
    if isinstance(selected, slice):
        texts = isinstance(selected.start or selected.stop, str)
    else:
        selected = list(selected)
        texts = bool(selected) and isinstance(selected[0], str)
    chosen = frame.loc[:, selected] if texts else frame.iloc[:, selected]
    return list(chosen.columns)


def _fitted_parts(step: Any) -> Iterator[Any]:
    """Yield the fitted estimators inside of another one, as in a search or a vote."""
    if isinstance(step, FeatureUnion):
        yield from (inner for _, inner in step.transformer_list)
    for name, value in getattr(step, "__dict__", {}).items():
        if not name.endswith("_") or name.endswith("__"):
            continue
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, BaseEstimator):
                yield part
            elif isinstance(inner := getattr(part, "estimator", None), BaseEstimator):
                yield inner
