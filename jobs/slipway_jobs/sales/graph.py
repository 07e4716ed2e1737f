"""``WithFallback`` as ONNX: the regressor's graph, and the choice between it and the means that
stand in.
"""

from onnx import NodeProto, TensorProto, checker, helper
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway_jobs.formats.onnx_graph import Graph
from slipway_jobs.formats.onnx_graph import export as export_regressor
from slipway_jobs.sales.fallback import KNOWN, MEANS, SOURCES, WithFallback

_MODEL = "slipway/model"


def export(estimator: WithFallback, signature: Signature) -> Graph:
    """Outputs: the quantity FP32 [rows], and a text [rows] of ``SOURCES`` that says how it was
    made.
    """
    said = Column(name=_MODEL, datatype=Datatype.FP32)
    model = export_regressor(
        estimator.regressor_, Signature(inputs=signature.inputs, outputs=(said,))
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
    graph.node.extend([*_rows_of((KNOWN, *MEANS)), *_chosen()])
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
    """Inputs as [rows]."""
    return [
        helper.make_node("Reshape", [name, "slipway/rows"], [f"slipway/row/{name}"])
        for name in names
    ]


def _chosen() -> list[NodeProto]:
    """From the last resort to the first: each stands where it is there, else what comes after
    it.
    """
    nodes = [
        helper.make_node("Max", [_MODEL, "slipway/zero"], ["slipway/model/positive"]),
        helper.make_node("Greater", [f"slipway/row/{KNOWN}", "slipway/zero"], ["slipway/there/0"]),
    ]
    last = len(SOURCES) - 1
    value, which = "slipway/zero", f"slipway/source/{last}"
    for index in reversed(range(last)):
        given = "slipway/model/positive" if index == 0 else f"slipway/row/{MEANS[index - 1]}"
        there, chosen, source = (
            f"slipway/there/{index}",
            f"slipway/value/{index}",
            f"slipway/which/{index}",
        )
        if index:
            nodes.append(helper.make_node("IsNaN", [given], [f"slipway/nan/{index}"]))
            nodes.append(helper.make_node("Not", [f"slipway/nan/{index}"], [there]))
        nodes.append(helper.make_node("Where", [there, given, value], [chosen]))
        nodes.append(helper.make_node("Where", [there, f"slipway/source/{index}", which], [source]))
        value, which = chosen, source
    return nodes
