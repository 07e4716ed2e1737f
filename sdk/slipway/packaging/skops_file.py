"""Adapter of skops: an estimator that has no equivalent ONNX graph, as a file without code."""

import logging
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sklearn
import skops.io
from sklearn.exceptions import InconsistentVersionWarning
from slipway_contract.registry import SKOPS_TRUSTED, ArtifactFormat
from slipway_contract.signature import Signature

from slipway.errors import Refused
from slipway.packaging.equivalent import equivalent
from slipway.packaging.estimator import Estimator
from slipway.packaging.graph import Sample, check_parity
from slipway.packaging.model import PackagedModel

logger = logging.getLogger(__name__)

UNPACKED_LIMIT = 2**31 - 1
"""Most bytes of a skops file that are unpacked, as many as an ONNX file may have."""

SCHEMA_LIMIT = 64 * 2**20
"""Most bytes of its ``schema.json``, which takes some twenty times as much memory."""

_REMEDY = (
    "use another transformer of scikit-learn in its place, or export the model to ONNX and log "
    "that file"
)


def as_skops(estimator: Estimator, samples: Sequence[Sample], reason: str) -> PackagedModel:
    """Return the estimator itself as a model, read back and compared on all samples.

    ``reason`` states why it is no ONNX graph. Raises Refused for types that could run code.
    """
    prefix = f"the model has no equivalent ONNX graph ({reason}), and as skops it is refused: "
    try:
        content = skops.io.dumps(equivalent(estimator.fitted))
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


def read_skops(path: Path, more: Sequence[str] = ()) -> tuple[Any, str]:
    """Return the estimator, and a caveat when another feature release of scikit-learn has saved it.

    ``more`` are types to trust in addition to SKOPS_TRUSTED. Raises Refused.
    """
    trusted = [*SKOPS_TRUSTED, *more]
    _check_size(path)
    try:
        unknown = set(skops.io.get_untrusted_types(file=path)) - set(trusted)
    except Exception as error:  # hostile bytes raise anything: zipfile, json, skops
        raise Refused(f"{path.name} is not a skops file that can be read: {error}") from error
    if unknown:
        raise Refused(
            f"{path.name} has types that are not on the fixed list of trusted ones: "
            f"{', '.join(sorted(unknown)[:10])}; {_REMEDY}"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = skops.io.load(path, trusted=trusted)
        except Exception as error:  # the same, and scikit-learn's
            caveat = _caveat(path.name, caught)
            raise Refused(
                f"{path.name} cannot be loaded: {error}{caveat and '; '}{caveat}"
            ) from error
    return fitted, _caveat(path.name, caught)


def _check_size(path: Path) -> None:
    """Raise Refused for no archive, and for one that is too large unpacked.

    An archive cannot have more than it declares: zipfile reads at most as many bytes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise Refused(f"{path.name} is not a skops file that can be read: {error}") from error
    schema = max((each.file_size for each in members if each.filename == "schema.json"), default=0)
    total = sum(each.file_size for each in members)
    for what, size, limit in (
        ("schema.json", schema, SCHEMA_LIMIT),
        ("its members", total, UNPACKED_LIMIT),
    ):
        if size > limit:
            raise Refused(
                f"{path.name} has {size} bytes in {what}; at most {limit} are read: export "
                "the model to ONNX and log that file"
            )


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
