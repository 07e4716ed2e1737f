"""Transformers of our own in skl2onnx: each draws its part of the graph itself, by a method ``draw(pen, input)``."""

from typing import Any

from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType


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


def _shape(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([None, operator.raw_operator.width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    drawn = operator.raw_operator.draw(_Pen(scope, container), operator.inputs[0].full_name)
    container.add_node("Identity", [drawn], [operator.outputs[0].full_name], name=scope.get_unique_operator_name("Identity"))
