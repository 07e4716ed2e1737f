"""ONNX export: skl2onnx converters for Slipway's estimators, and for a fixed threshold.

Such an estimator builds its graph by ``to_onnx(builder, input)``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.base import is_classifier
from sklearn.model_selection import FixedThresholdClassifier

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
        from onnx import helper

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


def _fixed_threshold(scope: Any, operator: Any, container: Any) -> None:
    """Build the inner classifier's probabilities, and the label by the threshold.

    skl2onnx has a converter for the tuned threshold only, which drops the threshold.
    """
    decided = operator.raw_operator
    inner = scope.declare_local_operator(
        sklearn_operator_name_map[type(decided.estimator_)], decided.estimator_
    )
    inner.inputs = operator.inputs
    inner.outputs.append(scope.declare_local_variable("predicted", Int64TensorType()))
    inner.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    probabilities = inner.outputs[1].full_name
    builder = _GraphBuilder(scope, container)
    positive = builder("Gather", probabilities, np.asarray(1, dtype=np.int64), axis=1)
    reached = builder(
        "Not", builder("Less", positive, np.asarray(decided.threshold, dtype=np.float32))
    )
    _name_outputs(scope, operator, container, builder("Cast", reached, to=7), probabilities)


update_registered_converter(
    FixedThresholdClassifier, "SlipwayFixedThreshold", calculate_linear_classifier_output_shapes,
    _fixed_threshold,
    options=_OPTIONS,
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
