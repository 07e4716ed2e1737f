"""ONNX export: skl2onnx converters for own estimators, decision thresholds, and missing texts.

Such an estimator builds its graph by ``to_onnx(builder, input)``.
"""

from collections.abc import Callable
from copy import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import helper
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import (
    get_converter,
    get_shape_calculator,
    register_converter,
    register_shape_calculator,
)
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    _infer_linear_classifier_output_types,
    calculate_linear_classifier_output_shapes,
)
from skl2onnx.operator_converters.common import concatenate_variables
from sklearn.base import is_classifier
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}
"""Options that skl2onnx expects of every classifier."""


class _GraphBuilder:
    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def __call__(self, kind: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        out = str(self._scope.get_unique_variable_name(f"built_{kind}"))
        self._container.add_node(
            kind, names, [out], name=self._scope.get_unique_operator_name(kind), **attributes
        )
        return out

    def _constant(self, value: NDArray[Any]) -> str:
        name = str(self._scope.get_unique_variable_name("constant"))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self._container.add_initializer(name, kind, list(value.shape), value.ravel().tolist())
        return name


def register_own_converters(estimator: Any) -> None:
    """Register converters for the estimator and those steps of a pipeline that have ``to_onnx``.

    A transformer states the width of its output by ``width``. A classifier builds the probabilities
    of its ``classes_``.
    """
    for step in (estimator, *(step for _, step in getattr(estimator, "steps", ()))):
        if hasattr(step, "to_onnx"):
            classifies = is_classifier(step)
            update_registered_converter(
                type(step), f"Slipway{type(step).__name__}",
                calculate_linear_classifier_output_shapes if classifies else _shape,
                _convert_classifier if classifies else _convert, overwrite=True,
                options=_OPTIONS if classifies else None,
            )  # fmt: skip


def _decision_threshold(scope: Any, operator: Any, container: Any) -> None:
    """Build the inner classifier's probabilities, and the label by the threshold.

    skl2onnx has no converter for it.
    """
    decided = operator.raw_operator
    if decided.response_method == "decision_function" or not hasattr(decided, "predict_proba"):
        raise NotImplementedError("a threshold of decision_function")
    inner = scope.declare_local_operator(
        sklearn_operator_name_map[type(decided.estimator_)], decided.estimator_
    )
    classes = np.asarray(decided.classes_)
    texts = classes.dtype.kind in "OUS"
    inner.inputs = operator.inputs
    inner.outputs.append(
        scope.declare_local_variable(
            "predicted", (StringTensorType if texts else Int64TensorType)()
        )
    )
    inner.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    probabilities = inner.outputs[1].full_name
    positive = 1
    if decided.pos_label is not None:
        positive = int(np.flatnonzero(classes == decided.pos_label)[0])
    threshold = 0.5 if decided.threshold == "auto" else float(decided.threshold)
    builder = _GraphBuilder(scope, container)
    score = builder("Gather", probabilities, np.asarray(positive, dtype=np.int64), axis=1)
    reached = builder("Not", builder("Less", score, np.asarray(threshold, np.float32)))
    labels = classes[[1 - positive, positive]].astype(object if texts else np.int64)
    label = builder("Gather", labels, builder("Cast", reached, to=7))
    _name_outputs(scope, operator, container, label, probabilities)


update_registered_converter(
    FixedThresholdClassifier, "SlipwayFixedThreshold", _infer_linear_classifier_output_types,
    _decision_threshold, overwrite=True, options=_OPTIONS,
)  # fmt: skip


def _shape(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([None, operator.raw_operator.width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    _name_outputs(
        scope,
        operator,
        container,
        operator.raw_operator.to_onnx(
            _GraphBuilder(scope, container), operator.inputs[0].full_name
        ),
    )


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    classifier, builder = operator.raw_operator, _GraphBuilder(scope, container)
    probabilities = classifier.to_onnx(builder, operator.inputs[0].full_name)
    most_probable = builder("ArgMax", probabilities, axis=1, keepdims=0)
    _name_outputs(
        scope,
        operator,
        container,
        builder("Gather", np.asarray(classifier.classes_, dtype=np.int64), most_probable),
        probabilities,
    )


def _name_outputs(scope: Any, operator: Any, container: Any, *results: str) -> None:
    """Add the results as the outputs that skl2onnx has named."""
    for name, output in zip(results, operator.outputs, strict=True):
        container.add_node(
            "Identity", [name], [output.full_name], name=scope.get_unique_operator_name("Identity")
        )


_SUMS = ("RMSE", "MAE", "MAPE", "Quantile", "Expectile", "Huber", "Lq", "LogCosh")
"""Loss functions of CatBoost whose predictions are sums of leaves; others transform these."""


def convert_catboost(scope: Any, operator: Any, container: Any) -> None:
    """Add the node of the trees from CatBoost's own export."""
    fitted = operator.raw_operator
    trees = getattr(fitted, "trees", fitted)
    loss = trees.get_all_params()["loss_function"].partition(":")[0]
    if is_classifier(fitted):
        if np.asarray(trees.classes_).dtype.kind == "b":
            raise NotImplementedError("booleans as labels, fit it on 0 and 1 or on texts")
    elif loss not in _SUMS:
        raise NotImplementedError(f"the loss function {loss}, which transforms predictions")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trees.onnx"
        trees.save_model(str(file), format="onnx")
        node = onnx.load(file).graph.node[0]  # the other one makes dictionaries
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    given = concatenate_variables(scope, operator.inputs, container)
    container.add_node(
        node.op_type, [given], [output.full_name for output in operator.outputs],
        op_domain="ai.onnx.ml", name=scope.get_unique_operator_name(node.op_type), **attributes,
    )  # fmt: skip


def converting(convert: Any, other: Any, scope: Any, operator: Any, container: Any) -> None:
    """Call a converter for another estimator than that of the operator."""
    fitted, operator.raw_operator = operator.raw_operator, other
    convert(scope, operator, container)
    operator.raw_operator = fitted


def _with_missing_texts(kind: type, prepare: Callable[[Any], Any]) -> None:
    """Let the converter of ``kind`` accept texts of which the empty one is missing.

    ``prepare`` returns the fitted transformer with the empty text in place of NaN.
    """
    known = sklearn_operator_name_map[kind]
    convert = get_converter(known)

    def converted(scope: Any, operator: Any, container: Any) -> None:
        if isinstance(operator.inputs[0].type, StringTensorType):
            converting(convert, prepare(copy(operator.raw_operator)), scope, operator, container)
        else:
            convert(scope, operator, container)

    register_converter(known, converted, overwrite=True, options=convert.get_allowed_options())


def _imputer(fitted: Any) -> Any:
    if _is_missing(fitted.missing_values):
        if fitted.add_indicator:
            raise NotImplementedError("SimpleImputer of texts with add_indicator")
        fitted.missing_values = ""
    return fitted


def _encoder(fitted: Any) -> Any:
    fitted.categories_ = [
        np.array(["" if _is_missing(each) else each for each in categories], dtype=object)
        for categories in fitted.categories_
    ]
    return fitted


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


for _kind, _prepare in (
    (SimpleImputer, _imputer), (OneHotEncoder, _encoder), (OrdinalEncoder, _encoder),
):  # fmt: skip
    _with_missing_texts(_kind, _prepare)


def _with_indicator(kind: type) -> None:
    """Let the converter of the imputer append which numbers were missing."""
    known = sklearn_operator_name_map[kind]
    convert, shape = get_converter(known), get_shape_calculator(known)

    def shaped(operator: Any) -> None:
        shape(operator)
        if operator.raw_operator.add_indicator:
            operator.outputs[0].type.shape[1] += len(operator.raw_operator.indicator_.features_)

    def converted(scope: Any, operator: Any, container: Any) -> None:
        fitted = operator.raw_operator
        texts = isinstance(operator.inputs[0].type, StringTensorType)
        if texts or not fitted.add_indicator or not len(fitted.indicator_.features_):
            convert(scope, operator, container)
            return
        without = copy(fitted)
        without.add_indicator = False
        inner = scope.declare_local_operator(known, without)
        inner.inputs = operator.inputs
        inner.outputs.append(
            scope.declare_local_variable("imputed", type(operator.outputs[0].type)())
        )
        given = concatenate_variables(scope, operator.inputs, container)
        builder = _GraphBuilder(scope, container)
        columns = builder("Gather", given, np.asarray(fitted.indicator_.features_), axis=1)
        missing = builder("Cast", builder("IsNaN", columns), to=1)
        both = builder("Concat", inner.outputs[0].full_name, missing, axis=1)
        _name_outputs(scope, operator, container, both)

    register_converter(known, converted, overwrite=True, options=convert.get_allowed_options())
    register_shape_calculator(known, shaped, overwrite=True)


def _votes(kind: type) -> None:
    """Let the converter of votes accept ``flatten_transform``, which predictions do not use."""
    known = sklearn_operator_name_map[kind]
    convert = get_converter(known)

    def converted(scope: Any, operator: Any, container: Any) -> None:
        votes = copy(operator.raw_operator)
        votes.flatten_transform = False
        converting(convert, votes, scope, operator, container)

    register_converter(known, converted, overwrite=True, options=convert.get_allowed_options())


_with_indicator(SimpleImputer)
_votes(VotingClassifier)
