"""External ONNX files."""

from pathlib import Path

from slipway.errors import Refused
from slipway.packaging.inference import explain, load_onnx
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_graph import Graph, GraphInput, inputs_for, inputs_of, read_alone
from slipway.packaging.rows import Arrays, as_output, generate_rows, of_request
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway_jobs.registry.adoption import understand


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
