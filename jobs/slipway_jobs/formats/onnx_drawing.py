"""What skl2onnx is taught: transformers of our own, which draw themselves by ``draw(pen, input)``, and a fixed threshold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.model_selection import FixedThresholdClassifier


class _Pen:
    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def __call__(self, kind: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        names = [each if isinstance(each, str) else self._constant(each) for each in inputs]
        out = str(self._scope.get_unique_variable_name(f"drawn_{kind}"))
        self._container.add_node(kind, names, [out], name=self._scope.get_unique_operator_name(kind), **attributes)
        return out

    def _constant(self, value: NDArray[Any]) -> str:
        from onnx import helper

        name = str(self._scope.get_unique_variable_name("constant"))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        self._container.add_initializer(name, kind, list(value.shape), value.ravel().tolist())
        return name


def let_draw(estimator: Any) -> None:
    """Tell the converter of each step of a pipeline that can draw itself; its ``width`` is that of what it gives."""
    for _, step in getattr(estimator, "steps", ()):
        if hasattr(step, "draw"):
            update_registered_converter(type(step), f"Slipway{type(step).__name__}", _shape, _convert, overwrite=True)


def _fixed_threshold(scope: Any, operator: Any, container: Any) -> None:
    """The probabilities of the classifier inside, the label by the threshold; skl2onnx has the tuned one only, and drops that."""
    decided = operator.raw_operator
    inner = scope.declare_local_operator(sklearn_operator_name_map[type(decided.estimator_)], decided.estimator_)
    inner.inputs = operator.inputs
    inner.outputs.append(scope.declare_local_variable("likelier", Int64TensorType()))
    inner.outputs.append(scope.declare_local_variable("probabilities", FloatTensorType()))
    probabilities = inner.outputs[1].full_name
    pen = _Pen(scope, container)
    positive = pen("Gather", probabilities, np.asarray(1, dtype=np.int64), axis=1)
    reached = pen("Not", pen("Less", positive, np.asarray(decided.threshold, dtype=np.float32)))
    for name, output in zip((pen("Cast", reached, to=7), probabilities), operator.outputs, strict=True):
        container.add_node("Identity", [name], [output.full_name], name=scope.get_unique_operator_name("Identity"))


update_registered_converter(
    FixedThresholdClassifier, "SlipwayFixedThreshold", calculate_linear_classifier_output_shapes, _fixed_threshold,
    options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
)  # fmt: skip


def _shape(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([None, operator.raw_operator.width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    drawn = operator.raw_operator.draw(_Pen(scope, container), operator.inputs[0].full_name)
    container.add_node("Identity", [drawn], [operator.outputs[0].full_name], name=scope.get_unique_operator_name("Identity"))
