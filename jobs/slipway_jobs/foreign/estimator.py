"""The door to skops: a fitted scikit-learn estimator that somebody else saved, served as ONNX where ONNX can say it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io
from sklearn.base import is_classifier
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway_jobs.errors import Refused
from slipway_jobs.foreign.model import ForeignModel
from slipway_jobs.foreign.parity import Parity, compare
from slipway_jobs.foreign.rows import Arrays, dtype_of, made_up
from slipway_jobs.formats.inference import load_onnx
from slipway_jobs.formats.onnx_graph import export
from slipway_jobs.problems.target import TIE, TOLERANCE

logger = logging.getLogger(__name__)

ROWS = 256
"""Made-up rows on which graph and estimator are compared, where none are given."""


def of_skops(path: Path, signature: Signature | None, rows: Arrays | None) -> ForeignModel:
    """The estimator in the file. ``rows`` are those on which its graph is compared with it. Raises Refused."""
    estimator = Estimator(path, signature)
    signature = estimator.signature
    whose = "the estimator" if rows else "the estimator, on made-up rows"
    rows = rows or made_up(signature, ROWS)
    try:
        content = export(estimator.fitted, signature).SerializeToString()
        parity = _parity(content, estimator, rows, whose)
    except Exception as error:  # converters raise what they like for what they do not know
        logger.warning("served as skops, because ONNX does not say it: %s", error)
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        origin = f"A scikit-learn estimator in skops, served as it is: ONNX does not say it ({reason})."
        return ForeignModel(ArtifactFormat.SKOPS, path.read_bytes(), signature, estimator.answer, origin)
    origin = "A scikit-learn estimator in skops, served as the ONNX graph that was made of it."
    return ForeignModel(ArtifactFormat.ONNX, content, signature, _runner(content, signature), origin, parity)


class Estimator:
    """A fitted estimator behind a signature, as serving has it."""

    def __init__(self, path: Path, signature: Signature | None) -> None:
        """Load it, and compare it with the signature. Raises Refused."""
        self.fitted = _load(path)
        self._names = [str(name) for name in getattr(self.fitted, "feature_names_in_", ())]
        width = getattr(self.fitted, "n_features_in_", None)
        if not isinstance(width, int):
            raise Refused(f"{path.name}: the estimator is not fitted, or does not say on how many values a row")
        self.signature = signature or self._derived(width)
        named = [column.name for column in self.signature.inputs]
        if self._names and set(self._names) != set(named):
            raise Refused(
                f"{path.name}: the estimator was fitted on {', '.join(self._names)}; the signature says {', '.join(named)}"
            )
        if (given := sum(element_count(column.shape) for column in self.signature.inputs)) != width:
            raise Refused(f"{path.name}: the estimator was fitted on {width} values a row; the signature has {given}")
        self._check_outputs(path)

    def answer(self, rows: Arrays) -> Arrays:
        """A scalar ``probability`` is that of the last class, a vector that of all; other outputs are what ``predict`` gives."""
        table = self.table(rows)
        given = {column.name: self._output(column, table) for column in self.signature.outputs}
        return {c.name: given[c.name].astype(dtype_of(c.datatype)).reshape(-1, *c.shape) for c in self.signature.outputs}

    def table(self, rows: Mapping[str, Any]) -> Any:
        """What the estimator takes: a data frame when it was fitted on one."""
        if self._names:
            return pd.DataFrame({name: rows[name] for name in self._names})
        return np.hstack([rows[column.name].reshape(len(rows[column.name]), -1) for column in self.signature.inputs])

    def _output(self, column: Column, table: Any) -> Any:
        if not column.shape and column.name != "probability":
            return np.asarray(self.fitted.predict(table))
        probabilities = np.asarray(self.fitted.predict_proba(table))
        return probabilities if column.shape else probabilities[:, -1]

    def _derived(self, width: int) -> Signature:
        inputs = tuple(Column(name=name, datatype=Datatype.FP32) for name in self._names)
        inputs = inputs or (Column(name="features", datatype=Datatype.FP32, shape=(width,)),)
        if not is_classifier(self.fitted):
            return Signature(inputs=inputs, outputs=(Column(name="value", datatype=Datatype.FP32),))
        classes = np.asarray(self.fitted.classes_)
        outputs = [Column(name="label", datatype=Datatype.INT64 if classes.dtype.kind in "iub" else Datatype.BYTES)]
        if hasattr(self.fitted, "predict_proba"):
            name, shape = ("probabilities", (len(classes),)) if len(classes) > 2 else ("probability", ())
            outputs.append(Column(name=name, datatype=Datatype.FP32, shape=shape, minimum=0, maximum=1))
        return Signature(inputs=inputs, outputs=tuple(outputs))

    def _check_outputs(self, path: Path) -> None:
        try:
            self.answer(made_up(self.signature, rows=2))
        except Exception as error:  # scikit-learn's errors for what does not fit
            raise Refused(f"{path.name}: the estimator does not answer as the signature says: {error}") from error


def _load(path: Path) -> Any:
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - set(SKOPS_TRUSTED)
    except Exception as error:  # of hostile bytes anything may come: zipfile, json, skops
        raise Refused(f"{path.name} is not a skops file that can be read: {error}") from error
    if unknown:
        raise Refused(f"{path.name} has types that are not on the fixed list of trusted ones: {', '.join(sorted(unknown)[:10])}")
    try:
        return skops.io.load(path, trusted=list(SKOPS_TRUSTED))
    except Exception as error:  # the same, and scikit-learn's
        raise Refused(f"{path.name} cannot be loaded: {error}") from error


def _runner(content: bytes, signature: Signature) -> Any:
    run = load_onnx(content)

    def answer(rows: Arrays) -> Arrays:
        given = run({column.name: rows[column.name].reshape(-1, *(column.shape or (1,))) for column in signature.inputs})
        return {column.name: given[column.name].reshape(-1, *column.shape) for column in signature.outputs}

    return answer


def _parity(content: bytes, estimator: Estimator, rows: Arrays, against: str) -> Parity:
    """The graph against the estimator; where two classes are equally likely, either may be named. Raises Refused."""
    given, expected = _runner(content, estimator.signature)(rows), estimator.answer(rows)
    label = estimator.signature.outputs[0].name
    if is_classifier(estimator.fitted) and hasattr(estimator.fitted, "predict_proba"):
        likely = np.asarray(estimator.fitted.predict_proba(estimator.table(rows)))
        named = np.searchsorted(estimator.fitted.classes_, given[label])
        ties = likely.max(axis=1) - likely[np.arange(len(likely)), named] <= TIE
        expected[label] = np.where(ties, given[label], expected[label])
    return compare(given, expected, TOLERANCE, against)
