"""ONNX files of any origin: the model signature is derived by trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway.errors import Refused
from slipway.packaging.inference import explain, load_onnx
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_graph import (
    Graph,
    GraphInput,
    inputs_for,
    inputs_of,
    output_column,
    read_alone,
    with_outputs,
    without_zip_maps,
)
from slipway.packaging.rows import Arrays, as_output, generate_rows, of_request

_TRIALS = (2, 3)
"""Numbers of rows of the trial runs: an output whose first dimension equals them is per row."""


def of_onnx(path: Path, signature: Signature | None, example: bytes | None) -> PackagedModel:
    """Return the model in the file, with the given signature or one derived by trial.

    Raises Refused.
    """
    graph = read_alone(path)
    try:
        load_onnx(graph.SerializeToString())
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise Refused(f"{path.name} cannot be run: {explain(error)}") from error
    inputs = inputs_for(graph, signature) if signature else inputs_of(graph)
    plain = Signature(
        inputs=tuple(each.column for each in inputs), outputs=tuple(each.column for each in inputs)
    )
    row = of_request(example, plain) if example else generate_rows(plain, rows=1)
    _check_names(graph, signature)
    first = {name: array[:1] for name, array in _feeds(row, inputs).items()}
    wanted = [column.name for column in signature.outputs] if signature else None
    declared, found = understand(graph, inputs, first, wanted)
    left_out = _check_outputs(graph, found, signature)
    content = declared.SerializeToString()
    run = load_onnx(content)
    columns = (signature or found).outputs

    def predict_rows(rows: Arrays) -> Arrays:
        given, count = run(_feeds(rows, inputs)), len(next(iter(rows.values())))
        return {column.name: as_output(column, given[column.name], count) for column in columns}

    origin = "An ONNX file, served unchanged."
    if left_out:
        origin = (
            f"An ONNX file, served without outputs that are not per row: {', '.join(left_out)}."
        )
    return PackagedModel(ArtifactFormat.ONNX, content, signature or found, predict_rows, origin)


def understand(
    graph: Graph, inputs: list[GraphInput], row: Arrays, wanted: Sequence[str] | None = None
) -> tuple[Graph, Signature]:
    """Derive the signature by trial with two numbers of rows.

    Returns it with the graph that declares its outputs: those ``wanted``, otherwise all. Outputs
    that are no tensors are left out, and, unless wanted, those that do not depend on the rows, such
    as names of classes. Raises Refused.
    """
    graph, classes = without_zip_maps(graph)
    few, more = _trials(graph, row)
    names = [
        name
        for name in more
        if isinstance(more[name], np.ndarray) and (wanted is None or name in wanted)
    ]
    if wanted is None:
        names = [name for name in names if few[name].shape != more[name].shape] or names
    columns = tuple(
        output_column(name, more[name], _TRIALS[1], classes.get(name, ())) for name in names
    )
    if not columns:
        raise Refused("the graph has no output with a datatype of V2")
    for column in columns:
        shape = output_column(column.name, few[column.name], _TRIALS[0]).shape
        if shape != column.shape:
            raise Refused(
                f"output {column.name!r} of a row has the shape {list(shape)} or "
                f"{list(column.shape)}, depending on the number of rows: rows must be independent"
            )
    scalars: dict[str, tuple[int, ...]] = {
        each.name: more[each.name].shape[1:] for each in columns if not each.shape
    }
    signature = Signature(inputs=tuple(each.column for each in inputs), outputs=columns)
    return with_outputs(graph, columns, scalars), signature


def _trials(graph: Graph, row: Arrays) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the outputs for ``row`` repeated, once for each number of rows. Raises Refused."""
    try:
        run = load_onnx(graph.SerializeToString())
        few, more = (
            run({name: np.repeat(value, rows, axis=0) for name, value in row.items()})
            for rows in _TRIALS
        )
    except Exception as error:  # ONNX Runtime's and protobuf's exceptions have no base of their own
        raise Refused(
            "the graph fails on the example: log it with an input_example that it accepts, or "
            f"register it with --example: {explain(error)}"
        ) from error
    return few, more


def _feeds(rows: Arrays, inputs: list[GraphInput]) -> Arrays:
    return {
        each.column.name: rows[each.column.name].reshape(-1, *each.dimensions).astype(each.dtype)
        for each in inputs
    }


def _check_names(graph: Graph, signature: Signature | None) -> None:
    declared = [output.name for output in graph.graph.output]
    for column in signature.outputs if signature else ():
        if column.name not in declared:
            raise Refused(
                f"the signature has the output {column.name!r}; the graph has {', '.join(declared)}"
            )


def _check_outputs(graph: Graph, found: Signature, signature: Signature | None) -> list[str]:
    """Return the names of outputs that are left out, because they do not depend on the rows.

    Raises Refused when a served output is no tensor, or differs from the signature.
    """
    tensors = {column.name: column for column in found.outputs}
    declared = {output.name: output for output in graph.graph.output}
    left_out = []
    for name in [column.name for column in signature.outputs] if signature else declared:
        if name in tensors:
            continue
        if not declared[name].type.HasField("tensor_type"):
            raise Refused(
                f"output {name!r} of the graph is not a tensor: V2 has no sequences or maps"
            )
        left_out.append(name)
    for column in signature.outputs if signature else ():
        given = tensors[column.name]
        if given.datatype is not column.datatype:
            raise Refused(
                f"output {column.name!r} of the graph is {given.datatype}; the signature "
                f"has {column.datatype}"
            )
        if given.shape != column.shape:
            shapes = f"{list(given.shape)} per row; the signature has {list(column.shape)}"
            raise Refused(f"output {column.name!r} of the graph has the shape {shapes}")
    return left_out
