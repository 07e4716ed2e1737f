"""Conversions between MLServer's tensors, the contract's tensors and numpy arrays."""

from collections.abc import Sequence

import numpy as np
from mlserver.types import InferenceRequest, RequestInput, RequestOutput, ResponseOutput, TensorData
from slipway_contract import v2
from slipway_contract.errors import InvalidInput, InvalidOutput, MalformedRequest
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype, Tensor, flatten

from slipway_serving.predictor import Array


def mlserver_request(request: v2.InferenceRequest) -> InferenceRequest:
    """Convert a parsed request to MLServer's types, without validation and without copies."""
    inputs = [
        RequestInput.model_construct(
            name=tensor.name,
            shape=tensor.shape,
            datatype=tensor.datatype.value,
            parameters=None,
            data=TensorData.model_construct(root=tensor.data),
        )
        for tensor in request.inputs
    ]
    outputs = (
        None
        if request.outputs is None
        else [RequestOutput(name=output.name) for output in request.outputs]
    )
    return InferenceRequest.model_construct(
        id=request.id, parameters=None, inputs=inputs, outputs=outputs
    )


def contract_tensors(given: Sequence[RequestInput]) -> list[Tensor]:
    """Convert the request's inputs to the contract's tensors, flat.

    MLServer has parsed names, datatypes and shapes, and ``Signature.check`` validates the values
    later. Raises InvalidInput (data does not have the shape, duplicate name) and MalformedRequest
    (data is not a list).
    """
    tensors: dict[str, Tensor] = {}
    for item in given:
        data = item.data.root
        if not isinstance(data, list):
            raise MalformedRequest(f"inputs: data of {item.name} must be a list")
        if item.name in tensors:
            raise InvalidInput(item.name, "given more than once")
        if any(size < 0 for size in item.shape):
            raise InvalidInput(item.name, f"shape {item.shape} has a negative dimension")
        tensors[item.name] = Tensor.model_construct(
            name=item.name,
            shape=item.shape,
            datatype=Datatype(item.datatype),
            parameters=None,
            data=flatten(item.name, data, item.shape),
        )
    return list(tensors.values())


def to_array(tensor: Tensor, column: Column) -> Array:
    """Convert a validated tensor to an array [rows, *column.shape].

    Null becomes NaN, and of texts the empty one, because ONNX has no missing texts.
    """
    data = tensor.data
    if column.datatype is Datatype.BYTES and column.missing:
        data = ["" if text is None else text for text in data]
    return np.array(data, dtype=column.datatype.dtype).reshape(-1, *column.shape)


def to_output(array: Array, column: Column, rows: int) -> ResponseOutput:
    """Convert an array [rows, *column.shape] to an output in the column's datatype.

    A scalar column may also have the shape [rows, 1]. Raises InvalidOutput for any other shape.
    """
    shape = (rows, *column.shape)
    if not column.has_shape(array.shape, rows):
        raise InvalidOutput(
            column.name,
            f"has the shape {list(array.shape)} for {rows} rows; {list(shape)} is expected",
        )
    array = array.reshape(shape).astype(column.datatype.dtype, copy=False)
    return ResponseOutput(
        name=column.name,
        shape=list(array.shape),
        datatype=column.datatype.value,
        data=array.ravel().tolist(),
    )
