"""ONNX export of a score of texts: bounded, with its sentiment code."""

from typing import Any

from onnx import NodeProto, TensorProto, helper
from slipway.packaging.onnx_graph import Graph, export, with_outputs
from slipway_contract.signature import Column, Signature

from slipway_sentiment.vader import NEUTRAL


def bounded_score(estimator: Any, signature: Signature) -> Graph:
    """Export a regressor with two outputs: its value clipped to -1 to 1, and its sentiment code."""
    score, label = signature.outputs
    raw = Column(name="slipway/raw", datatype=score.datatype)
    model = export(estimator, Signature(inputs=signature.inputs, outputs=(raw,)))
    bounds = {"low": -1.0, "high": 1.0, "pleasant": NEUTRAL, "unpleasant": -NEUTRAL}
    model.graph.initializer.extend(
        helper.make_tensor(f"slipway/{name}", TensorProto.FLOAT, [], [value])
        for name, value in bounds.items()
    )
    model.graph.initializer.append(
        helper.make_tensor("slipway/neutral", TensorProto.INT64, [], [1])
    )
    model.graph.node.extend(
        [
            helper.make_node("Clip", [raw.name, "slipway/low", "slipway/high"], [score.name]),
            *_compared("GreaterOrEqual", score.name, "slipway/pleasant", "slipway/above"),
            *_compared("LessOrEqual", score.name, "slipway/unpleasant", "slipway/below"),
            helper.make_node("Sub", ["slipway/above", "slipway/below"], ["slipway/sign"]),
            helper.make_node("Add", ["slipway/sign", "slipway/neutral"], [label.name]),
        ]
    )
    return with_outputs(model, signature.outputs, {})


def _compared(operator: str, name: str, bound: str, out: str) -> list[NodeProto]:
    return [
        helper.make_node(operator, [name, bound], [f"{out}/truth"]),
        helper.make_node("Cast", [f"{out}/truth"], [out], to=TensorProto.INT64),
    ]
