"""Adapter of skops: an estimator that has no equivalent ONNX graph, as a file without code."""

from collections.abc import Sequence

import skops.io
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Signature

from slipway.errors import Refused
from slipway.packaging.estimator import Estimator
from slipway.packaging.graph import Sample, check_parity
from slipway.packaging.model import PackagedModel

_REMEDY = "use transformers of scikit-learn in its place, or export the model to ONNX and log that"


def as_skops(estimator: Estimator, samples: Sequence[Sample], reason: str) -> PackagedModel:
    """Return the estimator itself as a model, read back and compared on all samples.

    ``reason`` states why it is no ONNX graph. Raises Refused for types that could run code.
    """
    prefix = f"the model has no equivalent ONNX graph ({reason}), and as skops it is refused: "
    try:
        content = skops.io.dumps(estimator.fitted)
        unknown = set(skops.io.get_untrusted_types(data=content)) - set(SKOPS_TRUSTED)
    except Exception as error:  # skops raises many types for objects that it cannot store
        raise Refused(f"{prefix}{type(error).__name__}: {str(error)[:300]}; {_REMEDY}") from error
    if unknown:
        raise Refused(
            f"{prefix}it contains {', '.join(sorted(unknown)[:5])}, which could run any code; "
            f"{_REMEDY}"
        )
    served = load_skops(content, estimator.signature)
    return PackagedModel(
        ArtifactFormat.SKOPS,
        content,
        estimator.signature,
        served.predict_rows,
        f"A scikit-learn estimator in skops, because it has no equivalent ONNX graph: {reason}.",
        check_parity(served.predict_rows, estimator, samples, "the model"),
    )


def load_skops(content: bytes, signature: Signature) -> Estimator:
    """Return the estimator of a skops file. Raises Refused if the signature does not fit it.

    skops raises an error for a type that is neither its own nor in SKOPS_TRUSTED.
    """
    loaded = skops.io.loads(content, trusted=list(SKOPS_TRUSTED))
    return Estimator(loaded, type(loaded).__name__, signature)
