"""An ONNX file that somebody else made."""

from pathlib import Path

from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Signature

from slipway_jobs.errors import Refused
from slipway_jobs.foreign.model import ForeignModel
from slipway_jobs.foreign.rows import Arrays, made_up, of_request
from slipway_jobs.formats.inference import explain, load_onnx
from slipway_jobs.formats.onnx_graph import Graph, GraphInput, inputs_for, inputs_of, read_alone
from slipway_jobs.registry.adoption import understand


def of_onnx(path: Path, signature: Signature | None, example: bytes | None) -> ForeignModel:
    """The model in the file, by the signature or by one that is found by trial. Raises Refused."""
    graph = read_alone(path)
    try:
        load_onnx(graph.SerializeToString())
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise Refused(f"{path.name} cannot be run: {explain(error)}") from error
    inputs = inputs_for(graph, signature) if signature else inputs_of(graph)
    plain = Signature(inputs=tuple(each.column for each in inputs), outputs=tuple(each.column for each in inputs))
    row = of_request(example, plain) if example else made_up(plain, rows=1)
    declared, found = understand(graph, inputs, _feeds(row, inputs))
    _check_outputs(graph, found, signature)
    content = declared.SerializeToString()
    run = load_onnx(content)
    wanted = {column.name: column for column in (signature or found).outputs}

    def answer(rows: Arrays) -> Arrays:
        given = run(_feeds(rows, inputs))
        return {name: given[name].reshape(-1, *column.shape) for name, column in wanted.items()}

    return ForeignModel(ArtifactFormat.ONNX, content, signature or found, answer, "An ONNX file, served as it is.")


def _feeds(rows: Arrays, inputs: list[GraphInput]) -> Arrays:
    return {each.column.name: rows[each.column.name].reshape(-1, *each.dimensions).astype(each.dtype) for each in inputs}


def _check_outputs(graph: Graph, found: Signature, signature: Signature | None) -> None:
    """Raise Refused when an output that is to be served is no tensor, or not what the signature says."""
    tensors = {column.name: column for column in found.outputs}
    declared = [output.name for output in graph.graph.output]
    for name in [column.name for column in signature.outputs] if signature else declared:
        if name not in declared:
            raise Refused(f"the signature has the output {name!r}; the graph gives {', '.join(declared)}")
        if name not in tensors:
            raise Refused(f"output {name!r} of the graph is no tensor: V2 has nothing for sequences and maps")
    for column in signature.outputs if signature else ():
        given = tensors[column.name]
        if given.datatype is not column.datatype:
            raise Refused(f"output {column.name!r} of the graph is {given.datatype}; the signature says {column.datatype}")
        if given.shape != column.shape:
            shapes = f"{list(given.shape)} a row; the signature says {list(column.shape)}"
            raise Refused(f"output {column.name!r} of the graph has the shape {shapes}")
