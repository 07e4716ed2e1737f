"""Adapter of skops: external scikit-learn estimators, served as ONNX where ONNX is equivalent."""

import logging
import warnings
from pathlib import Path
from typing import Any

import sklearn
import skops.io
from sklearn.exceptions import InconsistentVersionWarning
from slipway.errors import NotConvertible, Refused
from slipway.packaging.estimator import ROWS, Estimator
from slipway.packaging.graph import as_graph
from slipway.packaging.model import PackagedModel
from slipway.packaging.rows import Arrays, generate_rows, of_request
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.imports.rows import of_file

logger = logging.getLogger(__name__)


def of_skops(
    path: Path,
    signature: Signature | None,
    example: bytes | None,
    table: Path | None,
    *,
    serve_estimator: bool = False,
) -> PackagedModel:
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
            return _compared(estimator, rows)
        except NotConvertible as error:
            logger.warning("served as skops, because it has no ONNX graph: %s", error)
            origin += f": it has no ONNX graph ({error})"
    # An estimator of another scikit-learn is saved again, because its loaded form was verified.
    content = skops.io.dumps(estimator.fitted) if estimator.caveat else path.read_bytes()
    return PackagedModel(
        ArtifactFormat.SKOPS,
        content,
        estimator.signature,
        estimator.predict_rows,
        f"{origin}.",
        caveat=estimator.caveat,
    )


def _compared(estimator: Estimator, rows: Arrays | None) -> PackagedModel:
    """Return the estimator's graph as a model, compared on the rows or on generated ones.

    Raises NotConvertible, and Refused when the graph and the estimator have different outputs.
    """
    signature = estimator.signature
    if estimator.takes_texts:
        raise NotConvertible("its graph would tokenize texts differently")
    if rows is None and any(column.datatype is Datatype.BYTES for column in signature.inputs):
        raise NotConvertible("it takes texts, and no rows were given to compare a graph with it")
    against = "the estimator, on generated rows" if rows is None else "the estimator"
    origin = "A scikit-learn estimator in skops, served as the ONNX graph exported from it."
    rows = rows or generate_rows(signature, ROWS)
    try:
        return as_graph(estimator, [(rows, estimator.table(rows))], against, origin)
    except Refused as error:
        raise Refused(
            f"{error}: give representative rows by --expected, or serve the estimator itself "
            "by --format skops"
        ) from None


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
