"""EfficientNet-Lite0: its layers, the tensors of its checkpoint, and its ONNX graph.

The convolutions have no bias; batch normalization follows each. The graph has it folded into the
weights. Padding is that of TensorFlow (SAME), in which the weights were trained.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

SIDE = 224
CLASSES = 1000
EPSILON = 1e-3
"""Of the batch normalization. Channels with the variance 0 depend on it."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch normalization; ``depthwise`` has one filter per channel."""

    weight: str
    norm: str
    kernel: int
    stride: int
    inputs: int
    outputs: int
    depthwise: bool = False
    activated: bool = True
    """Whether the output is limited to 0..6."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.outputs, 1 if self.depthwise else self.inputs, self.kernel, self.kernel)


@dataclass(frozen=True)
class Block:
    """Convolutions; with ``residual`` their input is added to their output."""

    layers: tuple[Convolution, ...]
    residual: bool = False


_STAGES = (
    # expansion, kernel, stride of the first block, output channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def blocks() -> Iterator[Block]:
    """Yield the stem, the sixteen blocks, and the head."""
    yield Block((Convolution("_conv_stem", "_bn0", 3, 2, 3, 32),))
    channels, number = 32, 0
    for expansion, kernel, first, outputs, repeats in _STAGES:
        for stride in (first, *[1] * (repeats - 1)):
            yield _block(f"_blocks.{number}", expansion, kernel, stride, channels, outputs)
            channels, number = outputs, number + 1
    yield Block((Convolution("_conv_head", "_bn1", 1, 1, channels, 1280),))


def _block(name: str, expansion: int, kernel: int, stride: int, inputs: int, outputs: int) -> Block:
    wide = inputs * expansion
    layers: tuple[Convolution, ...] = (
        Convolution(
            f"{name}._depthwise_conv", f"{name}._bn1", kernel, stride, wide, wide, depthwise=True
        ),
        Convolution(f"{name}._project_conv", f"{name}._bn2", 1, 1, wide, outputs, activated=False),
    )
    if expansion != 1:
        layers = (
            Convolution(f"{name}._expand_conv", f"{name}._bn0", 1, 1, inputs, wide),
            *layers,
        )
    return Block(layers, residual=stride == 1 and inputs == outputs)


def expected_tensors() -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of the checkpoint by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for block in blocks():
        for layer in block.layers:
            shapes[f"{layer.weight}.weight"] = layer.shape
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer.norm}.{name}"] = (layer.outputs,)
            shapes[f"{layer.norm}.num_batches_tracked"] = ()
    return shapes | {"_fc.weight": (CLASSES, 1280), "_fc.bias": (CLASSES,)}


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after a side, which SAME divides unequally."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def build_graph(tensors: Tensors) -> onnx.ModelProto:
    """Return the graph: ``image`` [rows, 3, 224, 224] to ``label`` and ``probabilities``."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {"zero": np.float32(0), "six": np.float32(6)}
    value, side = "image", SIDE
    for number, block in enumerate(blocks()):
        given = value
        for layer in block.layers:
            value, side = _add_convolution(nodes, constants, tensors, layer, value, side)
        if block.residual:
            nodes.append(helper.make_node("Add", [given, value], [f"sum{number}"]))
            value = f"sum{number}"
    constants |= {each: tensors[each].astype(np.float32) for each in ("_fc.weight", "_fc.bias")}
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "_fc.weight", "_fc.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "efficientnet-lite0",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", CLASSES]),
        ],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model, full_check=True)
    return model


def _add_convolution(
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    tensors: Tensors,
    layer: Convolution,
    value: str,
    side: int,
) -> tuple[str, int]:
    """Add the nodes of a convolution; return the name and the side of its output."""
    weight, bias = f"{layer.weight}.weight", f"{layer.weight}.bias"
    constants[weight], constants[bias] = folded(tensors, layer)
    before, after = same_padding(side, layer.kernel, layer.stride)
    node = helper.make_node(
        "Conv",
        [value, weight, bias],
        [layer.weight],
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[before, before, after, after],
        group=layer.outputs if layer.depthwise else 1,
    )
    nodes.append(node)
    side = -(-side // layer.stride)
    if not layer.activated:
        return layer.weight, side
    limited = f"{layer.weight}.limited"
    nodes.append(helper.make_node("Clip", [layer.weight, "zero", "six"], [limited]))
    return limited, side


def folded(tensors: Tensors, layer: Convolution) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weight and the bias of a convolution with its batch normalization, in FP32."""
    scale, shift, mean, variance = (
        tensors[f"{layer.norm}.{name}"].astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + EPSILON)
    weight = tensors[f"{layer.weight}.weight"].astype(np.float64) * factor[:, None, None, None]
    return weight.astype(np.float32), (shift - mean * factor).astype(np.float32)
