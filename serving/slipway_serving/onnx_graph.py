"""Adapter of ONNX Runtime: a graph with the inputs and outputs of the model signature."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Since 1.29 ONNX Runtime reports models and runs to its vendor, and stores a device id under HOME,
# unless this is set before it is loaded (its Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from slipway_contract.signature import Column, Signature

from slipway_serving.errors import Refused
from slipway_serving.predictor import Array


class OnnxGraph:
    """An ONNX model file in its own session, on the CPU."""

    def __init__(self, path: Path, signature: Signature, threads: int = 1) -> None:
        """Load the graph and compare it with the signature. Raises Refused.

        ``threads`` is the number of threads that one operator may use.
        """
        self._session = _session(path, threads)
        self._ranks = {
            given.name: len(given.shape)
            for given in _matched(path.name, "input", self._session.get_inputs(), signature.inputs)
        }
        if unknown := self._ranks.keys() - {column.name for column in signature.inputs}:
            raise Refused(
                f"{path.name}: the graph needs input {min(unknown)!r}, which the signature "
                "does not have"
            )
        _matched(path.name, "output", self._session.get_outputs(), signature.outputs)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Return the named outputs, [rows, ...], for the inputs [rows, ...] by name."""
        feed = {
            name: array.reshape(-1, 1) if self._ranks[name] > array.ndim else array
            for name, array in inputs.items()
        }
        return dict(zip(outputs, self._session.run(list(outputs), feed), strict=True))


def _session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait burn the CPU limit of a pod.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The arena would hold the memory of the largest request until the process ends.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise Refused(f"{path.name} is not an ONNX model that can be loaded: {error}") from error


def _matched(
    file: str, kind: str, graph: Sequence[Any], columns: Sequence[Column]
) -> Sequence[Any]:
    nodes = {node.name: node for node in graph}
    for column in columns:
        if column.name not in nodes:
            raise Refused(
                f"{file}: the graph has no {kind} {column.name!r}; it has "
                f"{', '.join(nodes) or 'none'}"
            )
        node = nodes[column.name]
        if node.type != f"tensor({column.datatype.onnx.lower()})":
            raise Refused(
                f"{file}: {kind} {column.name!r} is {node.type}; the signature has "
                f"{column.datatype}"
            )
        if not _fits(node.shape, column):
            raise Refused(
                f"{file}: {kind} {column.name!r} has the shape {node.shape}; the signature has "
                f"[{', '.join(map(str, ('rows', *column.shape)))}]"
            )
    return graph


def _fits(shape: Sequence[int | str | None], column: Column) -> bool:
    """Return whether the graph takes any number of rows of the column's shape.

    A name or None in ``shape`` is a free dimension.
    """
    expected: tuple[int, ...] = column.shape
    if not column.shape and len(shape) == 2:  # a scalar column may be [rows, 1] in the graph
        expected = (1,)
    return (
        len(shape) == 1 + len(expected)
        and not isinstance(shape[0], int)
        and all(
            not isinstance(size, int) or size == length
            for size, length in zip(shape[1:], expected, strict=True)
        )
    )
