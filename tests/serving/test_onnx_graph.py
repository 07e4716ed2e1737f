"""Graphs that do not match their signature are rejected on load, with a one-line reason."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from slipway_contract.errors import InvalidOutput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_serving.errors import Refused
from slipway_serving.onnx_graph import OnnxGraph
from slipway_serving.tensors import to_output

Node = tuple[str, int, Sequence[int | str | None]]

SIGNATURE = Signature(
    inputs=(Column(name="x", datatype=Datatype.FP32),),
    outputs=(Column(name="y", datatype=Datatype.FP32),),
)


def graph(path: Path, inputs: Sequence[Node], outputs: Sequence[Node]) -> Path:
    """Write a graph in which each output is a copy of the first input."""
    nodes = [helper.make_node("Identity", [inputs[0][0]], [name]) for name, _, _ in outputs]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*node) for node in inputs],
        [helper.make_tensor_value_info(*n) for n in outputs],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path
    )
    return path


F = TensorProto.FLOAT


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([("z", F, [None])], [("y", F, [None])], "m.onnx: the graph has no input 'x'; it has z"),
        ([("x", F, [None])], [("z", F, [None])], "m.onnx: the graph has no output 'y'; it has z"),
        (
            [("x", F, [None]), ("w", F, [None])],
            [("y", F, [None])],
            "m.onnx: the graph needs input 'w', which the signature",
        ),
        (
            [("x", TensorProto.DOUBLE, [None])],
            [("y", TensorProto.DOUBLE, [None])],
            "input 'x' is tensor(double); the signature has FP32",
        ),
        (
            [("x", F, [None, 2])],
            [("y", F, [None, 2])],
            "input 'x' has the shape [None, 2]; the signature has [rows]",
        ),
        ([("x", F, [1])], [("y", F, [1])], "input 'x' has the shape [1]; the signature has [rows]"),
        (
            [("x", F, [None, 1, 1])],
            [("y", F, [None, 1, 1])],
            "input 'x' has the shape [None, 1, 1]; the signature has [rows]",
        ),
    ],
)
def test_a_mismatch_is_reported(
    tmp_path: Path, inputs: list[Node], outputs: list[Node], reason: str
) -> None:
    with pytest.raises(Refused) as caught:
        OnnxGraph(graph(tmp_path / "m.onnx", inputs, outputs), SIGNATURE)
    assert reason in str(caught.value)


@pytest.mark.parametrize("shape", [[None], ["batch"], [None, 1], ["batch", "width"]])
def test_a_scalar_column_is_reshaped_to_the_rank_of_the_graph(
    tmp_path: Path, shape: list[int | str | None]
) -> None:
    loaded = OnnxGraph(graph(tmp_path / "m.onnx", [("x", F, shape)], [("y", F, shape)]), SIGNATURE)
    given = loaded.run({"x": np.array([1, 2, 3], np.float32)}, ["y"])
    assert given["y"].ravel().tolist() == [1, 2, 3]


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_of_the_protocol_is_supported(tmp_path: Path, datatype: Datatype) -> None:
    element = helper.np_dtype_to_tensor_dtype(np.dtype(datatype.dtype))
    signature = Signature(
        inputs=(Column(name="x", datatype=datatype),),
        outputs=(Column(name="y", datatype=datatype),),
    )
    loaded = OnnxGraph(
        graph(tmp_path / "m.onnx", [("x", element, [None])], [("y", element, [None])]), signature
    )
    values = (
        ["a", "ü"]
        if datatype is Datatype.BYTES
        else [True, False]
        if datatype is Datatype.BOOL
        else [1, 2]
    )
    given = loaded.run({"x": np.array(values, np.dtype(datatype.dtype))}, ["y"])
    assert given["y"].tolist() == values


@pytest.mark.parametrize(("shape", "rows"), [((4,), 2), ((2, 2), 2), ((1, 2), 2), ((2, 1, 1), 2)])
def test_an_output_with_other_rows_than_the_request_is_an_error_of_the_model(
    shape: tuple[int, ...], rows: int
) -> None:
    with pytest.raises(
        InvalidOutput, match=r"output 'y' has the shape \[.*\] for 2 rows; \[2\] is expected"
    ):
        to_output(np.zeros(shape, np.float32), SIGNATURE.outputs[0], rows)
    assert to_output(np.zeros((2, 1), np.float32), SIGNATURE.outputs[0], rows).shape == [2]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x0a" * 50])
def test_an_invalid_graph_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(Refused, match=r"^m\.onnx is not an ONNX model that can be loaded: [^\n]+$"):
        OnnxGraph(tmp_path / "m.onnx", SIGNATURE)


def test_a_graph_cannot_read_files_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.zeros(4, np.float32).tobytes())
    (tmp_path / "inner").mkdir()
    tensor = TensorProto(name="w", data_type=F, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", F, [None])],
        [helper.make_tensor_value_info("y", F, [None])],
        initializer=[tensor],
    )
    path = tmp_path / "inner/m.onnx"
    path.write_bytes(
        helper.make_model(
            made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
        ).SerializeToString()
    )
    with pytest.raises(Refused):
        OnnxGraph(path, SIGNATURE)


def test_an_image_network_is_served_with_three_dimensions_and_class_names(tmp_path: Path) -> None:
    names = ("red", "green", "blue")
    image = Column(name="image", datatype=Datatype.FP32, shape=(3, 224, 224))
    scores = Column(name="scores", datatype=Datatype.FP32, shape=(3,), classes=names)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["scores"]),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    loaded = OnnxGraph(tmp_path / "model.onnx", Signature(inputs=(image,), outputs=(scores,)))
    images = np.zeros((2, 3, 224, 224), np.float32)
    images[1, 2] = 1
    assert loaded.run({"image": images}, ["scores"])["scores"].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert Column.of_metadata(scores.metadata).classes == names
