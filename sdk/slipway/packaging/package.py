"""Packaging of a fitted model: signature from data frames, ONNX or skops, parity on all rows."""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_string_dtype
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway.errors import DifferentOutputs, NotConvertible, Refused, WrongParameter
from slipway.packaging.boosters import OTHER, SCALED, libraries_of
from slipway.packaging.catboost_trees import as_estimator, is_catboost
from slipway.packaging.encoders import with_fitted_values
from slipway.packaging.estimator import Estimator
from slipway.packaging.frames import fitted_columns, frame_rows, infer_inputs
from slipway.packaging.graph import Sample, as_graph
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_table import of_graph
from slipway.packaging.skops_file import as_skops

logger = logging.getLogger(__name__)

PROBES = (
    "Größe ÉCOLE naïve İstanbul ΣΊΣΥΦΟΣ",
    "日本語 русский язык हिन्दी",
    "x_1 don't 12€ e-mail@example.org  a  I",
    "e\u0301te\u0301 ½ Ⅳ ²",
    "...",
)
"""Texts that tokenizers often read differently; a graph of texts is compared on them, too."""


def package(
    fitted: Any,
    frames: Mapping[str, pd.DataFrame],
    signature: Signature | None = None,
    inputs: tuple[Column, ...] = (),
) -> PackagedModel:
    """Return a fitted estimator of scikit-learn or of boosted trees as the package that is served.

    ``fitted`` may also be the path of an ONNX file, which is served unchanged. ``frames`` are rows
    by the name of the parameter that gave them; the package is compared with the estimator on all
    of them. Without a signature it is inferred from them; ``inputs`` are its inputs, where these
    are known. The package is an ONNX graph with one typed input per column, otherwise skops. Raises
    WrongParameter for data that cannot be inputs, and Refused for a model that cannot be served.
    """
    if isinstance(fitted, Path):
        return of_graph(fitted, frames, signature)
    if is_catboost(fitted):
        fitted = as_estimator(fitted)
    if not isinstance(fitted, BaseEstimator):
        raise WrongParameter(
            f"model: is a {type(fitted).__name__}; give a fitted estimator or pipeline of "
            "scikit-learn, XGBoost, LightGBM or CatBoost"
        )
    names = [str(name) for name in getattr(fitted, "feature_names_in_", ())]
    frames = {field: fitted_columns(names, frame, field) for field, frame in frames.items()}
    _check_categories(fitted, next(iter(frames.values())))
    if signature:
        return _compared(fitted, frames, signature.inputs, signature)
    inputs = with_fitted_values(fitted, inputs or infer_inputs(frames))
    try:
        return _compared(fitted, frames, inputs, None)
    except DifferentOutputs as error:
        precise = tuple(map(_precise, inputs))
        if precise == inputs:
            raise
        logger.info("numbers of the signature are FP64: as FP32, %s", error)
        return _compared(fitted, frames, precise, None)


def _precise(column: Column) -> Column:
    """Return the column with the precision of a data frame: trees compare numbers exactly."""
    if column.datatype is Datatype.FP32:
        return column.model_copy(update={"datatype": Datatype.FP64})
    return column


def _compared(
    fitted: Any,
    frames: Mapping[str, pd.DataFrame],
    inputs: tuple[Column, ...],
    signature: Signature | None,
) -> PackagedModel:
    """Return the package with these inputs, after the comparison on all rows."""
    rows = {field: frame_rows(frame, inputs) for field, frame in frames.items()}
    estimator = Estimator(
        fitted, type(fitted).__name__, signature, rows=(inputs, next(iter(rows.values())))
    )
    samples = [(rows[field], estimator.native(frame)) for field, frame in frames.items()]
    model = _packaged(estimator, samples, next(iter(frames.values())))
    model.check_samples(rows.values())
    return model


def _packaged(estimator: Estimator, samples: list[Sample], frame: pd.DataFrame) -> PackagedModel:
    if estimator.takes_texts:
        return as_skops(estimator, samples, "its graph would tokenize texts differently")
    probes = list(_probes(estimator, frame))
    libraries = libraries_of(estimator.fitted)
    kind = (
        " and ".join(f"{each} {sys.modules[each].__version__}" for each in libraries)
        or "scikit-learn"
    )
    origin = f"An estimator of {kind}, served as the ONNX graph exported from it."
    try:
        return as_graph(estimator, [*samples, *probes], "the model", origin)
    except (NotConvertible, Refused) as error:
        if libraries:
            remedy = SCALED if isinstance(error, DifferentOutputs) else OTHER
            raise Refused(f"the model has no equivalent ONNX graph: {error}; {remedy}") from error
        logger.warning("packaged as skops, because it has no equivalent ONNX graph: %s", error)
        return as_skops(estimator, samples, str(error))


def _check_categories(fitted: Any, frame: pd.DataFrame) -> None:
    """Raise Refused when boosted trees of a library themselves split categories of the frame."""
    if type(fitted).__module__.partition(".")[0] not in libraries_of(fitted):
        return
    for name, kind in frame.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype) or is_string_dtype(frame[name]):
            raise Refused(
                f"{type(fitted).__name__} splits the categories of {name!r} itself, and the "
                "converter to ONNX has no such splits: encode them in a pipeline, by "
                "make_column_transformer((OneHotEncoder(handle_unknown='ignore'), "
                f"[{name!r}]), remainder='passthrough', sparse_threshold=0), and fit again"
            )


def _probes(estimator: Estimator, frame: pd.DataFrame) -> Iterator[Sample]:
    """Yield rows with unusual texts, one sample for each input of free text."""
    if not estimator.contains(CountVectorizer):
        return
    for column in estimator.signature.inputs:
        if column.datatype is not Datatype.BYTES or column.categories:
            continue
        probe = _probe(frame, column)
        try:
            estimator.fitted.predict(probe)
        except Exception:  # noqa: S112  # an encoder refuses texts that it does not know
            continue
        yield frame_rows(probe, estimator.signature.inputs), probe


def _probe(frame: pd.DataFrame, column: Column) -> pd.DataFrame:
    probe = frame.iloc[[0] * len(PROBES)].reset_index(drop=True)
    return probe.assign(**{column.name: list(PROBES)})
