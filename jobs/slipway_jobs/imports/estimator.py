"""Adapter of skops: external scikit-learn estimators, served as ONNX where ONNX is equivalent."""

import logging
from pathlib import Path

import sklearn
import skops.io
from slipway.errors import NotConvertible, Refused
from slipway.packaging.estimator import ROWS, Estimator
from slipway.packaging.graph import as_graph
from slipway.packaging.model import PackagedModel
from slipway.packaging.rows import Arrays, generate_rows, of_request
from slipway.packaging.skops_file import read_skops
from slipway_contract.registry import ArtifactFormat
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
    fitted, caveat = read_skops(path)
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
