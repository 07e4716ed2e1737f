"""ONNX converters of XGBoost's and LightGBM's estimators, by onnxmltools, and of CatBoost's."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from importlib import import_module
from typing import Any

from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from slipway.errors import WrongParameter
from slipway.packaging.catboost_trees import CatBoostClassifier, CatBoostRegressor
from slipway.packaging.lightgbm_trees import LightGBMClassifier, LightGBMRegressor

ML_OPSET = 3
"""Newest version of the domain ai.onnx.ml that these converters write."""

SCALED = (
    "trees need no scaling, which changes the last digits in the graph, and the library reads "
    "absent values of sparse columns as missing: pass numbers to the trees unscaled, and columns "
    "dense (ColumnTransformer(..., sparse_threshold=0)), then fit again"
)
"""The remedy where a graph of trees has other outputs than the library."""

OTHER = "use another estimator of the library, or export the model to ONNX and log that file"
"""The remedy where there is no graph."""

_CONVERTERS: Mapping[str, tuple[str, str]] = {
    "xgboost": ("onnxmltools.convert.xgboost.operator_converters.XGBoost", "convert_xgboost"),
    "lightgbm": ("onnxmltools.convert.lightgbm.operator_converters.LightGbm", "convert_lightgbm"),
    "catboost": ("slipway.packaging.onnx_export", "convert_catboost"),
}
BOOSTER_TYPES = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Types that a skops file of boosted trees has: reading them parses trees and runs no code of it.

They are read to export a graph. Predictors do not have the libraries and read none of them.
"""

_ESTIMATORS = {"xgboost": "XGB", "lightgbm": "LGBM", "catboost": "CatBoost"}


def libraries_of(estimator: Any) -> list[str]:
    """Return the libraries of boosted trees that the estimator, or a step of it, is from."""
    parts = (estimator, *estimator.get_params(deep=True).values())
    used = {type(part).__module__.partition(".")[0] for part in parts}
    return sorted(used & _CONVERTERS.keys())


def register_converters(libraries: Sequence[str]) -> None:
    """Register the converters of the libraries with skl2onnx.

    Raises WrongParameter when the library's extra is not installed.
    """
    for library in libraries:
        module, function = _CONVERTERS[library]
        try:
            convert = getattr(import_module(module), function)
        except ModuleNotFoundError:
            raise WrongParameter(
                f"model: has an estimator of {library}, whose export needs onnxmltools; run: "
                f"pip install 'slipway[{library}]'"
            ) from None
        _register(library, _without_names(convert) if library == "xgboost" else convert)


def _register(library: str, convert: Callable[[Any, Any, Any], None]) -> None:
    module, prefix = import_module(library), _ESTIMATORS[library]
    classifiers = [getattr(module, f"{prefix}Classifier")]
    regressors = [getattr(module, f"{prefix}Regressor")]
    if library == "lightgbm":
        classifiers.append(LightGBMClassifier)
        regressors.append(LightGBMRegressor)
    if library == "catboost":
        classifiers.append(CatBoostClassifier)
        regressors.append(CatBoostRegressor)
    for kind in classifiers:
        update_registered_converter(
            kind, f"Slipway{kind.__name__}", calculate_linear_classifier_output_shapes, convert,
            overwrite=True, options={"zipmap": [True, False, "columns"], "nocl": [True, False]},
        )  # fmt: skip
    for kind in regressors:
        update_registered_converter(
            kind, f"Slipway{kind.__name__}", calculate_linear_regressor_output_shapes, convert,
            overwrite=True, options={"split": None},
        )  # fmt: skip


def _without_names(convert: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """Return the converter for trees that split columns by name: it reads only numbers of them."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        fitted = operator.raw_operator
        operator.raw_operator = copy(fitted)
        operator.raw_operator._Booster = fitted.get_booster().copy()
        operator.raw_operator._Booster.feature_names = None
        convert(scope, operator, container)
        operator.raw_operator = fitted

    return converted
