"""Adapter of skops: external scikit-learn estimators, served as ONNX where ONNX is equivalent."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skops.io
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway_jobs.errors import NotConvertible, Refused
from slipway_jobs.formats.inference import explain, load_onnx
from slipway_jobs.formats.onnx_graph import export
from slipway_jobs.imports.model import ImportedModel
from slipway_jobs.imports.parity import Parity, compare
from slipway_jobs.imports.rows import (
    Arrays,
    as_output,
    check_outputs,
    generate_rows,
    of_file,
    of_request,
)
from slipway_jobs.tasks.target import TIE, TOLERANCE

logger = logging.getLogger(__name__)

ROWS = 256
"""Number of generated rows on which graph and estimator are compared when no rows are given."""

_SUM = 1e-3
"""Largest difference between the sum of a row's probabilities and 1."""


def of_skops(
    path: Path,
    signature: Signature | None,
    example: bytes | None,
    table: Path | None,
    *,
    serve_estimator: bool = False,
) -> ImportedModel:
    """Return the estimator in the file as a model.

    Its graph is compared with it on the rows of ``table``, otherwise on generated rows. The
    estimator itself is served with ``serve_estimator``, or when it has no equivalent graph. Raises
    Refused, also when the graph has other outputs.
    """
    estimator = Estimator(path, signature, proven=table is not None)
    rows = of_file(table, estimator.signature)[0] if table else None
    estimator.check(rows or (of_request(example, estimator.signature) if example else None))
    origin = "A scikit-learn estimator in skops, served directly"
    if not serve_estimator:
        try:
            return _as_graph(estimator, rows)
        except NotConvertible as error:
            logger.warning("served as skops, because it has no ONNX graph: %s", error)
            origin += f": it has no ONNX graph ({error})"
    # An estimator of another scikit-learn is saved again, because its loaded form was verified.
    content = skops.io.dumps(estimator.fitted) if estimator.caveat else path.read_bytes()
    return ImportedModel(
        ArtifactFormat.SKOPS,
        content,
        estimator.signature,
        estimator.predict_rows,
        f"{origin}.",
        caveat=estimator.caveat,
    )


def _as_graph(estimator: "Estimator", rows: Arrays | None) -> ImportedModel:
    """Return the estimator's graph as a model.

    Raises NotConvertible, and Refused when the graph and the estimator have different outputs.
    """
    signature = estimator.signature
    if estimator.takes_texts:
        raise NotConvertible("its graph would tokenize texts differently")
    if rows is None and any(column.datatype is Datatype.BYTES for column in signature.inputs):
        raise NotConvertible("it takes texts, and no rows were given to compare a graph with it")
    reference = "the estimator, on generated rows" if rows is None else "the estimator"
    rows = rows or generate_rows(signature, ROWS)
    content = export(estimator.fitted, signature).SerializeToString()
    predict_rows = _runner(content, signature)
    try:
        parity = _parity(predict_rows, estimator, rows, reference)
    except Refused as error:
        raise Refused(
            f"{error}: give representative rows by --expected, or serve the estimator itself "
            "by --format skops"
        ) from None
    origin = "A scikit-learn estimator in skops, served as the ONNX graph exported from it."
    return ImportedModel(
        ArtifactFormat.ONNX, content, signature, predict_rows, origin, parity, estimator.caveat
    )


class Estimator:
    """A fitted estimator with a model signature, computed as serving does."""

    def __init__(self, path: Path, signature: Signature | None, *, proven: bool) -> None:
        """Load the estimator and compare it with the signature. Raises Refused.

        ``proven`` states that there are rows with expected outputs, so that another version of
        scikit-learn may have saved it.
        """
        self._file = path.name
        self.fitted, self.caveat = _load(path)
        if self.caveat and not proven:
            raise Refused(
                f"{self.caveat}: fit and save it with {sklearn.__version__}, or give rows with "
                "their original outputs by --expected"
            )
        _check_kind(self.fitted, self._file)
        self._names = [str(name) for name in getattr(self.fitted, "feature_names_in_", ())]
        width = getattr(self.fitted, "n_features_in_", None)
        self.takes_texts = width is None
        """Whether it takes a list of texts; only such vectorizers have no number of features."""
        self._derives = signature is None
        self.signature = signature or self._derived(width)
        self._check_signature(width)

    def predict_rows(self, rows: Arrays) -> Arrays:
        """Return the outputs [rows, *shape] by name.

        A scalar ``probability`` is that of the last class, a vector that of all classes; other
        outputs are the result of ``predict``. Raises Refused when an output differs from the
        signature in rows, shape or datatype.
        """
        table, count = self.table(rows), len(next(iter(rows.values())))
        return {
            c.name: _typed(c, as_output(c, self._output(c, table), count))
            for c in self.signature.outputs
        }

    def table(self, rows: Mapping[str, Any]) -> Any:
        """Return the estimator's input: data frame, list of texts, or array [rows, values]."""
        return self._table(self.signature.inputs, rows)

    def _table(self, inputs: Sequence[Column], rows: Mapping[str, Any]) -> Any:
        if self._names:
            return pd.DataFrame({name: rows[name] for name in self._names})
        if self.takes_texts:
            return rows[inputs[0].name]
        return np.hstack(
            [rows[column.name].reshape(len(rows[column.name]), -1) for column in inputs]
        )

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

    def _derived(self, width: int | None) -> Signature:
        inputs = tuple(Column(name=name, datatype=Datatype.FP32) for name in self._names)
        if width is None:
            inputs = (Column(name="text", datatype=Datatype.BYTES),)
        inputs = inputs or (Column(name="features", datatype=Datatype.FP32, shape=(width,)),)
        if is_classifier(self.fitted):
            return Signature(inputs=inputs, outputs=self._class_columns())
        plain = Signature(inputs=inputs, outputs=(Column(name="value", datatype=Datatype.FP32),))
        return Signature(
            inputs=inputs,
            outputs=(Column(name="value", datatype=Datatype.FP32, shape=self._targets(plain)),),
        )

    def _targets(self, plain: Signature) -> tuple[int, ...]:
        """Return the shape of a row's prediction: ``()``, or ``(targets,)`` of several targets."""
        try:
            given = self._call("predict", self._table(plain.inputs, generate_rows(plain, rows=2)))
        except Refused as error:
            raise Refused(f"{self._file}: {error}{self._remedy(None)}") from error
        return () if given.shape[1:] == (1,) else given.shape[1:]

    def _class_columns(self) -> tuple[Column, ...]:
        classes = np.asarray(self.fitted.classes_)
        if classes.dtype.kind == "f":  # whole numbers: scikit-learn rejects others
            classes = classes.astype(np.int64)
        whole = classes.dtype.kind in "iub"
        codes = {int(each): str(each) for each in classes} if whole else None
        label = Column(
            name="label", datatype=Datatype.INT64 if whole else Datatype.BYTES, codes=codes
        )
        if not self.gives_probabilities:
            return (label,)
        names = tuple(map(str, classes))
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


def _load(path: Path) -> tuple[Any, str]:
    """Return the estimator, and a caveat when another feature release of scikit-learn has saved it.

    Raises Refused.
    """
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - set(SKOPS_TRUSTED)
    except Exception as error:  # hostile bytes raise anything: zipfile, json, skops
        raise Refused(f"{path.name} is not a skops file that can be read: {error}") from error
    if unknown:
        raise Refused(
            f"{path.name} has types that are not on the fixed list of trusted ones: "
            f"{', '.join(sorted(unknown)[:10])}"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = skops.io.load(path, trusted=list(SKOPS_TRUSTED))
        except Exception as error:  # the same, and scikit-learn's
            caveat = _caveat(path.name, caught)
            raise Refused(
                f"{path.name} cannot be loaded: {error}{caveat and '; '}{caveat}"
            ) from error
    return fitted, _caveat(path.name, caught)


def _caveat(name: str, caught: list[warnings.WarningMessage]) -> str:
    """Return a sentence with both versions; empty when the feature release is the same."""
    for each in caught:
        if isinstance(each.message, InconsistentVersionWarning):
            saved, here = each.message.original_sklearn_version, sklearn.__version__
            if saved.split(".")[:2] != here.split(".")[:2]:
                return (
                    f"{name} was saved by scikit-learn {saved}, and predictions may differ with "
                    f"scikit-learn {here}"
                )
        logger.warning("%s: %s", name, each.message)
    return ""


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
            f"{file}: the estimator has {len(fitted.classes_)} classification outputs: save "
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


def _runner(content: bytes, signature: Signature) -> Callable[[Arrays], Arrays]:
    """Return a function that runs the graph. Raises NotConvertible when ONNX Runtime rejects it."""
    try:
        run = load_onnx(content)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise NotConvertible(f"ONNX Runtime rejects the graph: {explain(error)}") from error

    def predict_rows(rows: Arrays) -> Arrays:
        given = run(
            {
                column.name: rows[column.name].reshape(-1, *(column.shape or (1,)))
                for column in signature.inputs
            }
        )
        count = len(next(iter(rows.values())))
        return {
            column.name: as_output(column, given[column.name], count)
            for column in signature.outputs
        }

    return predict_rows


def _parity(
    predict_rows: Callable[[Arrays], Arrays], estimator: Estimator, rows: Arrays, against: str
) -> Parity:
    """Compare the graph with the estimator; of equally probable classes, either label is accepted.

    Raises Refused.
    """
    given, expected = predict_rows(rows), dict(estimator.predict_rows(rows))
    labels = [
        c.name for c in estimator.signature.outputs if not c.shape and c.name != "probability"
    ]
    if estimator.gives_probabilities and labels:
        probabilities = np.asarray(estimator.fitted.predict_proba(estimator.table(rows)))
        for label in labels:
            named = np.searchsorted(estimator.fitted.classes_, given[label]).clip(
                max=probabilities.shape[1] - 1
            )
            ties = (
                probabilities.max(axis=1) - probabilities[np.arange(len(probabilities)), named]
                <= TIE
            )
            expected[label] = np.where(ties, given[label], expected[label])
    return compare(given, expected, TOLERANCE, against)
