"""Adapter of skops: external scikit-learn estimators, served as ONNX where ONNX is equivalent."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import skops.io
from sklearn.exceptions import InconsistentVersionWarning
from slipway.errors import NotConvertible, Refused
from slipway.packaging.estimator import ROWS, Estimator
from slipway.packaging.inference import explain, load_onnx
from slipway.packaging.onnx_graph import export
from slipway.packaging.parity import TIE, TOLERANCE, Parity, compare
from slipway.packaging.rows import Arrays, as_output, generate_rows, of_request
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.imports.model import ImportedModel
from slipway_jobs.imports.rows import of_file

logger = logging.getLogger(__name__)


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
    fitted, caveat = _load(path)
    if caveat and table is None:
        raise Refused(
            f"{caveat}: fit and save it with {sklearn.__version__}, or give rows with "
            "their original outputs by --expected"
        )
    estimator = Estimator(fitted, path.name, signature, caveat)
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
