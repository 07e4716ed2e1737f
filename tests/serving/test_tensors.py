"""Conversion of tensors to arrays."""

from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype, Tensor
from slipway_serving.tensors import to_array


def test_a_missing_text_is_the_empty_text_because_onnx_has_no_null() -> None:
    column = Column(name="plan", datatype=Datatype.BYTES, missing=True)
    tensor = Tensor(name="plan", shape=[2], datatype=Datatype.BYTES, data=["gold", ""])
    tensor.data[1] = None
    assert to_array(tensor, column).tolist() == ["gold", ""]
