"""The door to skl2onnx and onnx: a fitted classifier as a graph with the signature's names."""

from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, compose, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

Graph = ModelProto

_TYPES = {Datatype.FP32: TensorProto.FLOAT, Datatype.INT64: TensorProto.INT64}
_ROWS = "rows"
"""The free first dimension of every input and output."""


def export(estimator: Any, signature: Signature) -> Graph:
    """The classifier as ONNX.

    Inputs: one per column of the signature, FP32 [rows, 1] or [rows, *shape], NaN = missing. Outputs: the label
    INT64 [rows], and FP32 either all probabilities [rows, classes] or, when the column is a scalar, that of class 1 [rows].
    """
    width = sum(element_count(column.shape) for column in signature.inputs)
    inner = convert_sklearn(
        estimator, initial_types=[("features", FloatTensorType([None, width]))], options={id(estimator): {"zipmap": False}}
    )
    # The prefix keeps the converter's own names (`label`, `probabilities`) apart from the signature's.
    inner = compose.add_prefix(inner, "estimator/")
    label, probabilities = (output.name for output in inner.graph.output)
    graph = helper.make_graph(
        [
            *_joined(signature, inner.graph.input[0].name),
            *inner.graph.node,
            helper.make_node("Identity", [label], [signature.outputs[0].name]),
            *_probability(signature.outputs[1], probabilities),
        ],
        "slipway",
        [_value(column, (1,)) for column in signature.inputs],
        [_value(column, ()) for column in signature.outputs],
        [*inner.graph.initializer, helper.make_tensor("slipway/positive", TensorProto.INT64, [], [1])],
    )
    model = helper.make_model(graph, opset_imports=list(inner.opset_import), ir_version=inner.ir_version, producer_name="slipway")
    checker.check_model(model, full_check=True)
    return model


def _joined(signature: Signature, features: str) -> list[NodeProto]:
    """The inputs side by side as [rows, width]."""
    names = [column.name for column in signature.inputs]
    if len(names) == 1 and len(signature.inputs[0].shape) == 1:
        return [helper.make_node("Identity", names, [features])]
    flat = [f"slipway/flat/{name}" for name in names]
    nodes = [helper.make_node("Flatten", [name], [out], axis=1) for name, out in zip(names, flat, strict=True)]
    return [*nodes, helper.make_node("Concat", flat, [features], axis=1)]


def _probability(column: Column, probabilities: str) -> list[NodeProto]:
    if column.shape:
        return [helper.make_node("Identity", [probabilities], [column.name])]
    return [helper.make_node("Gather", [probabilities, "slipway/positive"], [column.name], axis=1)]


def _value(column: Column, scalar: tuple[int, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(column.name, _TYPES[column.datatype], [_ROWS, *(column.shape or scalar)])
