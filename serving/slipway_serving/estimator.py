"""Adapter of scikit-learn: fitted estimators from skops files, and from joblib files by opt-in."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_serving.errors import Refused
from slipway_serving.predictor import Array

_log = logging.getLogger(__name__)


class Estimator:
    """A fitted scikit-learn estimator behind a model signature.

    A scalar output named ``probability`` is the probability of the last class. A vector output of a
    classifier has the probabilities of all classes, in order. Any other output is the result of
    ``predict``.
    """

    def __init__(self, path: Path, format: ArtifactFormat, signature: Signature) -> None:
        """Load the estimator and compare it with the signature. Raises Refused."""
        self._signature = signature
        self._columns = {column.name: column for column in signature.inputs}
        self._file = path.name
        self._model = _from_joblib(path) if format is ArtifactFormat.JOBLIB else _from_skops(path)
        self._names = [str(name) for name in getattr(self._model, "feature_names_in_", ())]
        self._check_inputs()
        self._outputs = {column.name: self._output(column) for column in signature.outputs}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs, [rows] or [rows, columns], for the inputs [rows, ...]."""
        table = self._table(inputs)
        return {name: self._outputs[name](table) for name in outputs}

    def _table(self, inputs: Mapping[str, Array]) -> Any:
        if self._names:
            import pandas as pd  # type: ignore[import-untyped]

            return pd.DataFrame(
                {name: _cells(self._columns[name], inputs[name]) for name in self._names}
            )
        if self._takes_texts:
            return inputs[self._signature.inputs[0].name]
        columns = [inputs[column.name] for column in self._signature.inputs]
        return np.hstack([array.reshape(len(array), -1) for array in columns])

    def _check_inputs(self) -> None:
        columns = self._signature.inputs
        if self._names and set(self._names) != {column.name for column in columns}:
            raise Refused(
                f"{self._file}: the estimator was fitted on {', '.join(self._names)}; "
                f"the signature has {', '.join(column.name for column in columns)}"
            )
        # Only vectorizers, which take a list of texts, have no number of features.
        self._takes_texts = not hasattr(self._model, "n_features_in_")
        if self._takes_texts:
            if [(column.datatype, column.shape) for column in columns] != [(Datatype.BYTES, ())]:
                raise Refused(
                    f"{self._file}: the estimator takes texts; the signature must have one "
                    "input, BYTES, a scalar"
                )
            return
        width = sum(int(np.prod(column.shape)) for column in columns)
        fitted = self._model.n_features_in_
        if fitted != width:
            raise Refused(
                f"{self._file}: the estimator was fitted on {fitted} values per row; the "
                f"signature has {width}"
            )

    def _output(self, column: Column) -> Callable[[Any], Array]:
        gives_probabilities = hasattr(self._model, "predict_proba") and hasattr(
            self._model, "classes_"
        )
        if column.name != "probability" and not (column.shape and gives_probabilities):
            return self._model.predict  # type: ignore[no-any-return]
        if not gives_probabilities:
            raise Refused(
                f"{self._file}: output {column.name!r} needs an estimator that gives probabilities"
            )
        classes = len(self._model.classes_)
        if column.shape not in ((), (classes,)):
            raise Refused(
                f"{self._file}: output {column.name!r} has shape {list(column.shape)}; there "
                f"are {classes} classes"
            )
        if column.shape:
            return self._model.predict_proba  # type: ignore[no-any-return]
        return lambda table: self._model.predict_proba(table)[:, -1]


def _cells(column: Column, array: Array) -> Array:
    """Return the values of a data frame's column, where a missing text is NaN, as in pandas."""
    if column.datatype is not Datatype.BYTES or not column.missing:
        return array
    return np.where(array == "", np.nan, array)


def _from_skops(path: Path) -> Any:
    # Imports all of scikit-learn: two seconds and 100 MiB that an ONNX model does not need.
    import skops.io

    with _of_this_release(path.name):
        try:
            return skops.io.load(path, trusted=list(SKOPS_TRUSTED))
        # Hostile bytes raise anything: zipfile, json, skops, scikit-learn.
        except Exception as error:
            raise Refused(f"{path.name} cannot be loaded: {error}") from error


def _from_joblib(path: Path) -> Any:
    import joblib  # type: ignore[import-untyped]

    with _of_this_release(path.name):
        try:
            return joblib.load(path)
        except Exception as error:  # a pickle runs its own code, which may raise any exception
            raise Refused(
                f"{path.name} cannot be loaded: {type(error).__name__}: {error}"
            ) from error


@contextmanager
def _of_this_release(name: str) -> Iterator[None]:
    """Raise Refused when the block loads an estimator of another scikit-learn feature release.

    Its predictions may differ from those it was evaluated with.
    """
    import sklearn
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        if isinstance(each.message, InconsistentVersionWarning):
            saved, here = each.message.original_sklearn_version, sklearn.__version__
            if saved.split(".")[:2] != here.split(".")[:2]:
                raise Refused(
                    f"{name} was saved by scikit-learn {saved}, and predictions may differ with "
                    f"scikit-learn {here}: fit and save it with {here}, then register it"
                )
        _log.warning("%s: %s", name, each.message)
