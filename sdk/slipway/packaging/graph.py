"""A fitted estimator as an ONNX graph, compared with the estimator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway.errors import NotConvertible
from slipway.packaging.encoders import check_encoders
from slipway.packaging.equivalent import equivalent
from slipway.packaging.estimator import Estimator
from slipway.packaging.inference import explain, load_onnx
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_graph import export, export_columns
from slipway.packaging.parity import TIE, TOLERANCE, Parity, compare, joined
from slipway.packaging.rows import Arrays, as_output

Sample = tuple[Arrays, Any]
"""Rows by input, and the same rows as the estimator takes them."""


def as_graph(
    estimator: Estimator, samples: Sequence[Sample], against: str, origin: str
) -> PackagedModel:
    """Return the estimator's graph as a model, compared with the estimator on all samples.

    ``against`` names the estimator in messages. Raises NotConvertible, and Refused when the graph
    and the estimator have different outputs.
    """
    signature = estimator.signature
    check_encoders(estimator.fitted, signature)
    other = Estimator(equivalent(estimator.fitted), "the model", signature)
    exported = export_columns if other.selects_columns else export
    content = exported(other.fitted, signature).SerializeToString()
    predict_rows = graph_runner(content, signature)
    parity = check_parity(predict_rows, estimator, samples, against)
    return PackagedModel(
        ArtifactFormat.ONNX, content, signature, predict_rows, origin, parity, estimator.caveat
    )


def graph_runner(content: bytes, signature: Signature) -> Callable[[Arrays], Arrays]:
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


def check_parity(
    predict_rows: Callable[[Arrays], Arrays],
    estimator: Estimator,
    samples: Sequence[Sample],
    against: str,
) -> Parity:
    """Compare the predictions of a packaged model with those of the estimator on all samples.

    A label may differ from that of ``predict`` if both classes are equally probable. Raises
    Refused.
    """
    return joined([_compared(predict_rows, estimator, sample, against) for sample in samples])


def _compared(
    predict_rows: Callable[[Arrays], Arrays], estimator: Estimator, sample: Sample, against: str
) -> Parity:
    rows, table = sample
    count = len(next(iter(rows.values())))
    given, expected = predict_rows(rows), dict(estimator.predict_table(table, count))
    labels = [
        c.name for c in estimator.signature.outputs if not c.shape and c.name != "probability"
    ]
    if estimator.gives_probabilities and any(
        (given[name] != expected[name]).any() for name in labels
    ):
        probabilities = np.asarray(estimator.fitted.predict_proba(table))
        for name in labels:
            ties = _ties(estimator.fitted.classes_, probabilities, given[name], expected[name])
            expected[name] = np.where(ties, given[name], expected[name])
    return compare(given, expected, TOLERANCE, against)


def _ties(
    classes: NDArray[Any],
    probabilities: NDArray[Any],
    given: NDArray[Any],
    expected: NDArray[Any],
) -> NDArray[np.bool_]:
    """Return for each row whether the given class is as probable as the expected one.

    The expected class need not be the most probable one: an estimator may have a threshold.
    """
    found, wanted = (
        np.searchsorted(classes, labels).clip(max=len(classes) - 1) for labels in (given, expected)
    )
    rows = np.arange(len(probabilities))
    known = (classes[found] == given) & (classes[wanted] == expected)
    apart = np.abs(probabilities[rows, found] - probabilities[rows, wanted])
    return np.asarray(known & (apart <= TIE))
