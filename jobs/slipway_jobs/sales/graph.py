"""``WithFallback`` as ONNX: the regressor's graph, and the selection of its fallbacks."""

from onnx import NodeProto, TensorProto, checker, helper
from slipway.packaging.onnx_graph import Graph
from slipway.packaging.onnx_graph import export as export_regressor
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.sales.fallback import KNOWN, MEANS, SOURCES, WithFallback

_MODEL = "slipway/model"


def export(estimator: WithFallback, signature: Signature) -> Graph:
    """Export the estimator with two outputs, both [rows]: the quantity FP32 and its source.

    The source is one of the texts ``SOURCES``.
    """
    raw = Column(name=_MODEL, datatype=Datatype.FP32)
    model = export_regressor(
        estimator.regressor_, Signature(inputs=signature.inputs, outputs=(raw,))
    )
    quantity, source = (column.name for column in signature.outputs)
    graph = model.graph
    graph.initializer.extend(
        [
            helper.make_tensor("slipway/rows", TensorProto.INT64, [1], [-1]),
            helper.make_tensor("slipway/zero", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor(
                "slipway/sources",
                TensorProto.STRING,
                [len(SOURCES)],
                [name.encode() for name in SOURCES],  # type: ignore[misc]
            ),
            *(
                helper.make_tensor(f"slipway/source/{index}", TensorProto.INT64, [1], [index])
                for index in range(len(SOURCES))
            ),
        ]
    )
    graph.node.extend([*_rows_of((KNOWN, *MEANS)), *_selection()])
    graph.node.extend(
        [
            helper.make_node("Identity", ["slipway/value/0"], [quantity]),
            helper.make_node("Gather", ["slipway/sources", "slipway/which/0"], [source]),
        ]
    )
    del graph.output[:]
    for name, kind in ((quantity, TensorProto.FLOAT), (source, TensorProto.STRING)):
        graph.output.append(helper.make_tensor_value_info(name, kind, ["rows"]))
    checker.check_model(model, full_check=True)
    return model


def _rows_of(names: tuple[str, ...]) -> list[NodeProto]:
    """Return nodes that reshape inputs to [rows]."""
    return [
        helper.make_node("Reshape", [name, "slipway/rows"], [f"slipway/row/{name}"])
        for name in names
    ]


def _selection() -> list[NodeProto]:
    """Return nodes that select the first known value of each row, built from the last fallback."""
    nodes = [
        helper.make_node("Max", [_MODEL, "slipway/zero"], ["slipway/model/positive"]),
        helper.make_node("Greater", [f"slipway/row/{KNOWN}", "slipway/zero"], ["slipway/known/0"]),
    ]
    last = len(SOURCES) - 1
    value, which = "slipway/zero", f"slipway/source/{last}"
    for index in reversed(range(last)):
        given = "slipway/model/positive" if index == 0 else f"slipway/row/{MEANS[index - 1]}"
        known, chosen, source = (
            f"slipway/known/{index}",
            f"slipway/value/{index}",
            f"slipway/which/{index}",
        )
        if index:
            nodes.append(helper.make_node("IsNaN", [given], [f"slipway/nan/{index}"]))
            nodes.append(helper.make_node("Not", [f"slipway/nan/{index}"], [known]))
        nodes.append(helper.make_node("Where", [known, given, value], [chosen]))
        nodes.append(helper.make_node("Where", [known, f"slipway/source/{index}", which], [source]))
        value, which = chosen, source
    return nodes
