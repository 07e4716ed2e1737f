"""A fitted scikit-learn estimator behind a model signature, computed as serving does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway.errors import Refused
from slipway.packaging.rows import Arrays, as_output, check_outputs, generate_rows

ROWS = 256
"""Number of generated rows on which graph and estimator are compared when no rows are given."""

_SUM = 1e-3
"""Largest difference between the sum of a row's probabilities and 1."""


class Estimator:
    """A fitted estimator with a model signature, computed as serving does."""

    def __init__(
        self,
        fitted: Any,
        name: str,
        signature: Signature | None,
        caveat: str = "",
        rows: tuple[tuple[Column, ...], Arrays] | None = None,
    ) -> None:
        """Compare the estimator with the signature. Raises Refused.

        Without a signature it is derived: from the inputs and some rows of them, or from what the
        estimator was fitted on.

        ``name`` is that of its file, for messages. ``caveat`` is a reason for other outputs than
        those of its training.
        """
        self._file, self.fitted, self.caveat = name, fitted, caveat
        _check_kind(self.fitted, self._file)
        self._names = [str(name) for name in getattr(self.fitted, "feature_names_in_", ())]
        width = getattr(self.fitted, "n_features_in_", None)
        self.takes_texts = width is None
        """Whether it takes a list of texts; only such vectorizers have no number of features."""
        self._derives = signature is None
        self.signature = signature or self._derived(width, rows)
        self._check_signature(width)

    def predict_rows(self, rows: Arrays) -> Arrays:
        """Return the outputs [rows, *shape] by name.

        A scalar ``probability`` is that of the last class, a vector that of all classes; other
        outputs are the result of ``predict``. Raises Refused when an output differs from the
        signature in rows, shape or datatype.
        """
        return self.predict_table(self.table(rows), len(next(iter(rows.values()))))

    def predict_table(self, table: Any, count: int) -> Arrays:
        """Return the outputs for ``count`` rows as the estimator takes them. Raises Refused."""
        return {
            c.name: _typed(c, as_output(c, self._output(c, table), count))
            for c in self.signature.outputs
        }

    def table(self, rows: Mapping[str, Any]) -> Any:
        """Return the estimator's input: data frame, list of texts, or array [rows, values]."""
        return self._table(self.signature.inputs, rows)

    def _table(self, inputs: Sequence[Column], rows: Mapping[str, Any]) -> Any:
        if self._names:
            columns = {column.name: column for column in inputs}
            return pd.DataFrame({name: _cells(columns[name], rows[name]) for name in self._names})
        if self.takes_texts:
            return rows[inputs[0].name]
        return np.hstack(
            [rows[column.name].reshape(len(rows[column.name]), -1) for column in inputs]
        )

    def native(self, frame: pd.DataFrame) -> Any:
        """Return a data frame in the form in which the estimator was fitted."""
        if self._names:
            return frame[self._names]
        return frame.iloc[:, 0].to_numpy(object) if self.takes_texts else frame.to_numpy()

    def check(self, rows: Arrays | None) -> None:
        """Raise Refused unless the outputs for the rows fit the signature; None generates rows."""
        given = rows or generate_rows(self.signature, ROWS)
        try:
            outputs = self.predict_rows(given)
            if self.gives_probabilities:
                self._check_probabilities(given)
        except Refused as error:
            raise Refused(f"{self._file}: {error}{self._remedy(rows)}") from error
        # The bounds of a given signature apply to real rows only.
        if rows is None and self._derives:
            check_outputs(self.signature, outputs, len(next(iter(given.values()))))

    @property
    def selects_columns(self) -> bool:
        """Whether it takes a data frame whose columns it distinguishes."""
        texts = {column.datatype is Datatype.BYTES for column in self.signature.inputs}
        return bool(self._names) and (len(texts) > 1 or self.contains(ColumnTransformer))

    def contains(self, kind: type) -> bool:
        """Return whether it is, or has as a step, an estimator of the kind."""
        parts = self.fitted.get_params(deep=True).values()
        return any(isinstance(part, kind) for part in (self.fitted, *parts))

    @property
    def gives_probabilities(self) -> bool:
        return hasattr(self.fitted, "predict_proba") and hasattr(self.fitted, "classes_")

    def _remedy(self, rows: Arrays | None) -> str:
        if self.caveat:
            return f"; {self.caveat}"
        if rows is not None:
            return ""
        return (
            f"; {'give a' if self._derives else 'correct the'} --signature, or give a valid "
            "--example"
        )

    def _check_probabilities(self, rows: Arrays) -> None:
        given = self._call("predict_proba", self.table(rows)).astype(np.float64)
        if (
            given.min() < -_SUM
            or given.max() > 1 + _SUM
            or np.abs(given.sum(axis=1) - 1).max() > _SUM
        ):
            raise Refused(
                f"predict_proba returns {given.max():g}, with a sum of {given[0].sum():g} for a "
                "row: these are not probabilities"
            )

    def _output(self, column: Column, table: Any) -> NDArray[Any]:
        if not self.gives_probabilities or not (column.shape or column.name == "probability"):
            return self._call("predict", table)
        probabilities = self._call("predict_proba", table)
        return probabilities if column.shape else probabilities[:, -1]

    def _call(self, method: str, table: Any) -> NDArray[Any]:
        try:
            return np.asarray(getattr(self.fitted, method)(table))
        except Exception as error:  # any error of scikit-learn for invalid rows
            raise Refused(
                f"{method} of the estimator fails: {type(error).__name__}: {str(error)[:300]}"
            ) from error

    def _derived(
        self, width: int | None, given: tuple[tuple[Column, ...], Arrays] | None
    ) -> Signature:
        inputs, rows = given or (self._derived_inputs(width), None)
        if is_classifier(self.fitted):
            return Signature(inputs=inputs, outputs=self._class_columns())
        plain = Signature(inputs=inputs, outputs=(Column(name="value", datatype=Datatype.FP32),))
        shape = self._targets(plain, rows or generate_rows(plain, rows=2))
        return Signature(
            inputs=inputs, outputs=(Column(name="value", datatype=Datatype.FP32, shape=shape),)
        )

    def _derived_inputs(self, width: int | None) -> tuple[Column, ...]:
        inputs = tuple(Column(name=name, datatype=Datatype.FP32) for name in self._names)
        if width is None:
            inputs = (Column(name="text", datatype=Datatype.BYTES),)
        return inputs or (Column(name="features", datatype=Datatype.FP32, shape=(width or 1,)),)

    def _targets(self, plain: Signature, rows: Arrays) -> tuple[int, ...]:
        """Return the shape of a row's prediction: ``()``, or ``(targets,)`` of several targets."""
        try:
            given = self._call("predict", self._table(plain.inputs, rows))
        except Refused as error:
            raise Refused(f"{self._file}: {error}{self._remedy(None)}") from error
        return () if given.shape[1:] == (1,) else given.shape[1:]

    def _class_columns(self) -> tuple[Column, ...]:
        classes = np.asarray(self.fitted.classes_)
        if classes.dtype.kind == "f":  # whole numbers: scikit-learn rejects others
            classes = classes.astype(np.int64)
        whole = classes.dtype.kind in "iub"
        names = tuple(map(str, classes))
        label = (
            Column(
                name="label",
                datatype=Datatype.INT64,
                codes={int(each): str(each) for each in classes},
            )
            if whole
            else Column(
                name="label", datatype=Datatype.BYTES, categories=names if all(names) else None
            )
        )
        if not self.gives_probabilities:
            return (label,)
        if len(classes) > 2:
            probability = Column(
                name="probabilities",
                datatype=Datatype.FP32,
                shape=classes.shape,
                minimum=0,
                maximum=1,
                classes=names,
            )
        else:
            probability = Column(
                name="probability",
                datatype=Datatype.FP32,
                minimum=0,
                maximum=1,
                description=f"of class {names[-1]}",
            )
        return (label, probability)

    def _check_signature(self, width: int | None) -> None:
        columns = self.signature.inputs
        named = [column.name for column in columns]
        if self._names and set(self._names) != set(named):
            raise Refused(
                f"{self._file}: the estimator was fitted on {', '.join(self._names)}; the "
                f"signature has {', '.join(named)}"
            )
        for column in self.signature.outputs:
            if column.name == "probability" and not column.shape and not self.gives_probabilities:
                raise Refused(
                    f"{self._file}: output 'probability' needs an estimator that gives "
                    "probabilities"
                )
        if width is None and [(column.datatype, column.shape) for column in columns] != [
            (Datatype.BYTES, ())
        ]:
            raise Refused(
                f"{self._file}: the estimator takes texts; the signature must have one "
                "input, BYTES, a scalar"
            )
        if (
            width is not None
            and (given := sum(element_count(column.shape) for column in columns)) != width
        ):
            raise Refused(
                f"{self._file}: the estimator was fitted on {width} values per row; the "
                f"signature has {given}"
            )


def _cells(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a data frame's column, where a missing text is NaN, as in pandas."""
    if column.datatype is not Datatype.BYTES or not column.missing:
        return values
    return np.where(values == "", np.nan, values)


def _check_kind(fitted: Any, file: str) -> None:
    """Raise Refused unless it is a fitted estimator with one prediction per row."""
    try:
        check_is_fitted(fitted)
    except NotFittedError:
        raise Refused(f"{file}: the estimator is not fitted: fit it, then save it") from None
    except TypeError:
        raise Refused(
            f"{file} contains {type(fitted).__name__}, which is not an estimator"
        ) from None
    if not hasattr(fitted, "predict"):
        raise Refused(
            f"{file}: {type(fitted).__name__} does not predict: save the whole pipeline, "
            "with its last step"
        )
    if isinstance(getattr(fitted, "classes_", None), list):
        raise Refused(
            f"{file}: the estimator has {len(fitted.classes_)} classification outputs: fit "
            "one estimator for each"
        )


def _typed(column: Column, array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in the column's datatype. Raises Refused when that changes values."""
    if (array.dtype.kind in "OUS") != (column.datatype is Datatype.BYTES):
        raise Refused(
            f"output {column.name!r} is {array.reshape(-1).tolist()[0]!r}; the signature "
            f"has {column.datatype}"
        )
    given = array.astype(column.datatype.dtype)
    if not column.datatype.is_float and (wrong := array[given != array]).size:
        raise Refused(
            f"output {column.name!r} is {wrong.tolist()[0]!r}; the signature has {column.datatype}"
        )
    return given
