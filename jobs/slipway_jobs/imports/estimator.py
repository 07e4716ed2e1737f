"""The door to skops: a fitted scikit-learn estimator that somebody else saved, served as ONNX where
ONNX can say it.
"""

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
    check_answer,
    dtype_of,
    made_up,
    of_file,
    of_request,
)
from slipway_jobs.tasks.target import TIE, TOLERANCE

logger = logging.getLogger(__name__)

ROWS = 256
"""Made-up rows on which graph and estimator are compared, where none are given."""

_SUM = 1e-3
"""How far the probabilities of a row may be from 1 in all."""


def of_skops(
    path: Path,
    signature: Signature | None,
    example: bytes | None,
    table: Path | None,
    *,
    as_it_is: bool = False,
) -> ImportedModel:
    """The estimator in the file.

    Its graph is compared with it on the rows of ``table``, else on made-up ones; where ONNX does
    not say what it says, or ``as_it_is``, it is served itself. Raises Refused, also when the graph
    gives other outputs.
    """
    estimator = Estimator(path, signature, proven=table is not None)
    rows = of_file(table, estimator.signature)[0] if table else None
    estimator.check(rows or (of_request(example, estimator.signature) if example else None))
    origin = "A scikit-learn estimator in skops, served as it is"
    if not as_it_is:
        try:
            return _as_graph(estimator, rows)
        except NotConvertible as error:
            logger.warning("served as skops, because ONNX does not say it: %s", error)
            origin += f": ONNX does not say it ({error})"
    # What another scikit-learn has saved is written anew: as this one has loaded it, it was proven.
    content = skops.io.dumps(estimator.fitted) if estimator.caveat else path.read_bytes()
    return ImportedModel(
        ArtifactFormat.SKOPS,
        content,
        estimator.signature,
        estimator.answer,
        f"{origin}.",
        caveat=estimator.caveat,
    )


def _as_graph(estimator: "Estimator", rows: Arrays | None) -> ImportedModel:
    """Raises NotConvertible, and Refused when the graph gives other outputs than the estimator."""
    signature = estimator.signature
    if estimator.takes_texts:
        raise NotConvertible("its graph would split texts into words in another way")
    if rows is None and any(column.datatype is Datatype.BYTES for column in signature.inputs):
        raise NotConvertible(
            "it takes texts, and no rows were given on which a graph can be compared with it"
        )
    whose = "the estimator, on made-up rows" if rows is None else "the estimator"
    rows = rows or made_up(signature, ROWS)
    content = export(estimator.fitted, signature).SerializeToString()
    answer = _runner(content, signature)
    try:
        parity = _parity(answer, estimator, rows, whose)
    except Refused as error:
        raise Refused(
            f"{error}: give rows that are like yours by --expected, or serve the estimator "
            "as it is by --format skops"
        ) from None
    origin = "A scikit-learn estimator in skops, served as the ONNX graph that was made of it."
    return ImportedModel(
        ArtifactFormat.ONNX, content, signature, answer, origin, parity, estimator.caveat
    )


class Estimator:
    """A fitted estimator behind a signature, as serving has it."""

    def __init__(self, path: Path, signature: Signature | None, *, proven: bool) -> None:
        """Load it, and compare it with the signature. Raises Refused.

        ``proven``: there are rows with the outputs that it must give, so another version of
        scikit-learn may have saved it.
        """
        self._file = path.name
        self.fitted, self.caveat = _load(path)
        if self.caveat and not proven:
            raise Refused(
                f"{self.caveat}: fit and save it with {sklearn.__version__}, or give rows "
                "with the outputs that it gave there "
                "by --expected"
            )
        _check_kind(self.fitted, self._file)
        self._names = [str(name) for name in getattr(self.fitted, "feature_names_in_", ())]
        width = getattr(self.fitted, "n_features_in_", None)
        self.takes_texts = width is None
        """Whether it takes a list of texts in place of a table, as vectorizers do: these alone have
        no number of features.
        """
        self._derives = signature is None
        self.signature = signature or self._derived(width)
        self._check_signature(width)

    def answer(self, rows: Arrays) -> Arrays:
        """A scalar ``probability`` is that of the last class, a vector that of all; other outputs
        are what ``predict`` gives.

        Raises Refused when an output has another number of rows, another shape or another datatype
        than the signature has.
        """
        table, count = self.table(rows), len(next(iter(rows.values())))
        return {
            c.name: _typed(c, as_output(c, self._output(c, table), count))
            for c in self.signature.outputs
        }

    def table(self, rows: Mapping[str, Any]) -> Any:
        """What the estimator takes: a data frame when it was fitted on one, a list of texts, else
        [rows, values].
        """
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
        """Raise Refused unless it answers the rows, made-up ones if None, as the signature says."""
        given = rows or made_up(self.signature, ROWS)
        try:
            answer = self.answer(given)
            if self.gives_probabilities:
                self._check_probabilities(given)
        except Refused as error:
            raise Refused(f"{self._file}: {error}{self._remedy(rows)}") from error
        if (
            rows is None and self._derives
        ):  # of a signature that is given, bounds hold for rows that occur
            check_answer(self.signature, answer, len(next(iter(given.values()))))

    @property
    def gives_probabilities(self) -> bool:
        return hasattr(self.fitted, "predict_proba") and hasattr(self.fitted, "classes_")

    def _remedy(self, rows: Arrays | None) -> str:
        if self.caveat:
            return f"; {self.caveat}"
        if rows is not None:
            return ""
        return (
            f"; {'give it a' if self._derives else 'correct the'} --signature, or give an "
            "--example that it answers"
        )

    def _check_probabilities(self, rows: Arrays) -> None:
        given = self._call("predict_proba", self.table(rows)).astype(np.float64)
        if (
            given.min() < -_SUM
            or given.max() > 1 + _SUM
            or np.abs(given.sum(axis=1) - 1).max() > _SUM
        ):
            raise Refused(
                f"predict_proba gives {given.max():g}, and {given[0].sum():g} in all for a "
                "row: no probabilities"
            )

    def _output(self, column: Column, table: Any) -> NDArray[Any]:
        if not self.gives_probabilities or not (column.shape or column.name == "probability"):
            return self._call("predict", table)
        probabilities = self._call("predict_proba", table)
        return probabilities if column.shape else probabilities[:, -1]

    def _call(self, method: str, table: Any) -> NDArray[Any]:
        try:
            return np.asarray(getattr(self.fitted, method)(table))
        except Exception as error:  # scikit-learn's errors for what does not fit
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
        """The shape of what is predicted for a row: ``()``, or of several targets
        ``(targets,)``.
        """
        try:
            given = self._call("predict", self._table(plain.inputs, made_up(plain, rows=2)))
        except Refused as error:
            raise Refused(f"{self._file}: {error}{self._remedy(None)}") from error
        return () if given.shape[1:] == (1,) else given.shape[1:]

    def _class_columns(self) -> tuple[Column, ...]:
        classes = np.asarray(self.fitted.classes_)
        if classes.dtype.kind == "f":  # whole numbers: scikit-learn takes no others
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
                f"signature says {', '.join(named)}"
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
                f"{self._file}: the estimator was fitted on {width} values a row; the "
                f"signature has {given}"
            )


def _load(path: Path) -> tuple[Any, str]:
    """The estimator, and what is to be known when another feature release of scikit-learn has saved
    it. Raises Refused.
    """
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - set(SKOPS_TRUSTED)
    except Exception as error:  # of hostile bytes anything may come: zipfile, json, skops
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
    """A sentence with both versions; empty when the feature release is the same."""
    for each in caught:
        if isinstance(each.message, InconsistentVersionWarning):
            saved, here = each.message.original_sklearn_version, sklearn.__version__
            if saved.split(".")[:2] != here.split(".")[:2]:
                return (
                    f"{name} was saved by scikit-learn {saved}, and scikit-learn {here} may make "
                    "something else of it"
                )
        logger.warning("%s: %s", name, each.message)
    return ""


def _check_kind(fitted: Any, file: str) -> None:
    """Raise Refused unless it is a fitted estimator that predicts one thing."""
    try:
        check_is_fitted(fitted)
    except NotFittedError:
        raise Refused(f"{file}: the estimator is not fitted: fit it, then save it") from None
    except TypeError:
        raise Refused(f"{file} holds {type(fitted).__name__}, which is no estimator") from None
    if not hasattr(fitted, "predict"):
        raise Refused(
            f"{file}: {type(fitted).__name__} does not predict: save the whole pipeline, "
            "with its last step"
        )
    if isinstance(getattr(fitted, "classes_", None), list):
        raise Refused(
            f"{file}: the estimator classifies {len(fitted.classes_)} things at once: save "
            "one estimator for each"
        )


def _typed(column: Column, array: NDArray[Any]) -> NDArray[Any]:
    """The array in the column's datatype. Raises Refused when values become others by that."""
    if (array.dtype.kind in "OUS") != (column.datatype is Datatype.BYTES):
        raise Refused(
            f"output {column.name!r} is {array.reshape(-1).tolist()[0]!r}; the signature "
            f"says {column.datatype}"
        )
    given = array.astype(dtype_of(column.datatype))
    if not column.datatype.is_float and (wrong := array[given != array]).size:
        raise Refused(
            f"output {column.name!r} is {wrong.tolist()[0]!r}; the signature says {column.datatype}"
        )
    return given


def _runner(content: bytes, signature: Signature) -> Callable[[Arrays], Arrays]:
    """The graph behind the signature. Raises NotConvertible when ONNX Runtime does not take it."""
    try:
        run = load_onnx(content)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise NotConvertible(f"ONNX Runtime does not run the graph: {explain(error)}") from error

    def answer(rows: Arrays) -> Arrays:
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

    return answer


def _parity(
    answer: Callable[[Arrays], Arrays], estimator: Estimator, rows: Arrays, against: str
) -> Parity:
    """The graph against the estimator; where two classes are equally likely, either may be named.
    Raises Refused.
    """
    given, expected = answer(rows), dict(estimator.answer(rows))
    labels = [
        c.name for c in estimator.signature.outputs if not c.shape and c.name != "probability"
    ]
    if estimator.gives_probabilities and labels:
        likely = np.asarray(estimator.fitted.predict_proba(estimator.table(rows)))
        for label in labels:
            named = np.searchsorted(estimator.fitted.classes_, given[label]).clip(
                max=likely.shape[1] - 1
            )
            ties = likely.max(axis=1) - likely[np.arange(len(likely)), named] <= TIE
            expected[label] = np.where(ties, given[label], expected[label])
    return compare(given, expected, TOLERANCE, against)
