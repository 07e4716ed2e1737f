"""Adapter of skl2onnx and onnx: exports estimators, and reads the inputs of imported graphs."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    checker,
    compose,
    helper,
    shape_inference,
)
from skl2onnx import __max_supported_opset__, convert_sklearn
from skl2onnx.common._registration import get_converter, register_converter
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.base import is_classifier
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, element_count

from slipway.errors import NotConvertible, Refused
from slipway.packaging.boosters import ML_OPSET, libraries_of, register_converters
from slipway.packaging.category_splits import with_comparisons
from slipway.packaging.onnx_export import converting, register_own_converters

Graph = ModelProto

_TYPES: dict[Datatype, int] = {each: TensorProto.DataType.Value(each.onnx) for each in Datatype}
_DATATYPES = {number: datatype for datatype, number in _TYPES.items()}
_ROWS = "rows"
"""The free first dimension of every input and output."""


class _Plain:
    """A converter's container that accepts numpy numbers.

    skl2onnx passes lists of them for boosted trees, which onnx rejects.
    """

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, kind: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        plain = {name: _python(value) for name, value in attributes.items()}
        self._container.add_node(kind, inputs, outputs, **plain)


def _python(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    numbers = [each.item() if isinstance(each, np.generic) else each for each in value]
    return [int(each) if isinstance(each, bool) else each for each in numbers]


def _convert_histogram_trees(alias: str) -> None:
    known = get_converter(alias)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        trees = with_comparisons(operator.raw_operator)
        converting(known, trees, scope, operator, _Plain(container))

    register_converter(alias, convert, overwrite=True, options=known.get_allowed_options())


for _kind in ("Classifier", "Regressor"):
    _convert_histogram_trees(f"SklearnHistGradientBoosting{_kind}")


def export(estimator: Any, signature: Signature) -> Graph:
    """Export the estimator as an ONNX graph with the signature's names.

    Inputs: one per column, [rows, 1] or [rows, *shape], of numbers with NaN for missing values, or
    of texts. Outputs of a classifier: all probabilities [rows, classes] for a vector, that of class
    1 [rows] for a scalar ``probability``, otherwise the label [rows]. Output of a regressor: the
    value [rows, *shape]. Raises NotConvertible when the estimator has no converter or the converter
    fails.
    """
    if len({column.datatype is Datatype.BYTES for column in signature.inputs}) > 1:
        raise NotConvertible("it has both text and number inputs")
    width = sum(element_count(column.shape) for column in signature.inputs)
    kind = StringTensorType if signature.inputs[0].datatype is Datatype.BYTES else FloatTensorType
    inner = _converted(estimator, [("features", kind([None, width]))])
    return _wrapped(inner, signature, _joined(signature, inner.graph.input[0].name))


def export_columns(estimator: Any, signature: Signature) -> Graph:
    """Export an estimator that selects columns of a data frame by name, each a typed input.

    Inputs and outputs are those of ``export``; a missing text is the empty one. Raises
    NotConvertible.
    """
    kinds = [_COLUMN_TYPES.get(_feature(column), Int64TensorType) for column in signature.inputs]
    names = {column.name for column in signature.inputs}
    if both := names & {column.name for column in signature.outputs}:
        raise NotConvertible(f"{min(both)!r} is an input and an output")
    if any(column.shape for column in signature.inputs):
        raise NotConvertible("a column of a data frame has one value per row")
    inner = _converted(
        estimator,
        [(c.name, kind([None, 1])) for c, kind in zip(signature.inputs, kinds, strict=True)],
    )
    given = [value.name for value in inner.graph.input]
    if len(given) != len(signature.inputs):
        raise NotConvertible("its converter leaves inputs out")
    _read_all_words(inner)
    return _wrapped(inner, signature, list(map(_as_column, signature.inputs, given)))


_COLUMN_TYPES: dict[int, Any] = {
    TensorProto.FLOAT: FloatTensorType,
    TensorProto.INT64: Int64TensorType,
    TensorProto.STRING: StringTensorType,
}


def _feature(column: Column) -> int:
    """Return the element type in which a converter receives the column."""
    if column.datatype is Datatype.BYTES:
        return TensorProto.STRING
    return TensorProto.FLOAT if column.datatype.is_float else TensorProto.INT64


def _as_column(column: Column, out: str) -> NodeProto:
    if _TYPES[column.datatype] == _feature(column):
        return helper.make_node("Identity", [column.name], [out])
    return helper.make_node("Cast", [column.name], [out], to=_feature(column))


_ASCII_WORDS, _WORDS = b"[a-zA-Z0-9_]+", rb"[\p{L}\p{N}_]+"


def _read_all_words(graph: Graph) -> None:
    """Let nodes of texts read letters of all languages, as scikit-learn does.

    skl2onnx writes an ASCII pattern, and the locale en_US, which images do not have.
    """
    for node in graph.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Tokenizer" and attribute.s == _ASCII_WORDS:
                attribute.s = _WORDS
        if node.op_type == "StringNormalizer":
            kept = [each for each in node.attribute if each.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("locale", "C.UTF-8")])


def _wrapped(inner: Graph, signature: Signature, first: Sequence[NodeProto]) -> Graph:
    """Return the converter's graph with the inputs and outputs of the signature.

    ``first`` are nodes from these inputs to those of the converter.
    """
    graph = helper.make_graph(
        [
            *first,
            *inner.graph.node,
            *_named(signature, inner.graph.output),
        ],
        "slipway",
        [_value(column, (1,)) for column in signature.inputs],
        [_value(column, ()) for column in signature.outputs],
        [
            *inner.graph.initializer,
            helper.make_tensor("slipway/positive", TensorProto.INT64, [], [1]),
            *(_shape(column) for column in signature.outputs),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=list(inner.opset_import),
        ir_version=inner.ir_version,
        producer_name="slipway",
    )
    try:
        checker.check_model(model, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise NotConvertible(f"its graph is invalid: {str(error).strip()[:300]}") from error
    return model


def _converted(estimator: Any, inputs: Sequence[tuple[str, Any]]) -> Graph:
    """Return the converter's graph of inputs with their types. Raises NotConvertible."""
    register_own_converters(estimator)
    libraries = libraries_of(estimator)
    register_converters(libraries)
    opsets = {"": __max_supported_opset__, "ai.onnx.ml": ML_OPSET} if libraries else None
    options = {id(estimator): {"zipmap": False}} if is_classifier(estimator) else None
    try:
        with warnings.catch_warnings():
            # The converter of support vectors reads an attribute that scikit-learn deprecates.
            warnings.filterwarnings(
                "ignore", message="Attribute `prob[AB]_` was deprecated", category=FutureWarning
            )
            model = convert_sklearn(
                estimator, initial_types=list(inputs), options=options, target_opset=opsets
            )
            # The prefix separates the converter's own names (`label`, `probabilities`) from the
            # signature's.
            return compose.add_prefix(model, "estimator/")
    except (MissingConverter, MissingShapeCalculator) as error:
        raise NotConvertible(str(error).strip().splitlines()[0][:300]) from error
    except Exception as error:  # converters raise any exception for unsupported parameters
        first = str(error).strip().splitlines() or [""]
        raise NotConvertible(
            f"its converter failed: {type(error).__name__}: {first[0][:300]}"
        ) from error


def _joined(signature: Signature, features: str) -> list[NodeProto]:
    """Return nodes that concatenate the inputs as [rows, width]."""
    names = [column.name for column in signature.inputs]
    if len(names) == 1 and len(signature.inputs[0].shape) <= 1:
        return [_as_feature(signature.inputs[0], names[0], features)]
    nodes, flat = [], []
    for column in signature.inputs:
        number, out = f"slipway/number/{column.name}", f"slipway/flat/{column.name}"
        nodes += [
            _as_feature(column, column.name, number),
            helper.make_node("Flatten", [number], [out], axis=1),
        ]
        flat.append(out)
    return [*nodes, helper.make_node("Concat", flat, [features], axis=1)]


def _as_feature(column: Column, name: str, out: str) -> NodeProto:
    if column.datatype in (Datatype.FP32, Datatype.BYTES):
        return helper.make_node("Identity", [name], [out])
    return helper.make_node("Cast", [name], [out], to=TensorProto.FLOAT)


def _named(signature: Signature, given: Sequence[ValueInfoProto]) -> list[NodeProto]:
    """Return nodes for the signature's outputs, with its names and datatypes."""
    return [node for column in signature.outputs for node in _output_nodes(column, given)]


def _output_nodes(column: Column, given: Sequence[ValueInfoProto]) -> list[NodeProto]:
    source = (
        given[1] if len(given) > 1 and (column.shape or column.name == "probability") else given[0]
    )
    picked = f"slipway/picked/{column.name}"
    if source is not given[0] and not column.shape:
        node = helper.make_node("Gather", [source.name, "slipway/positive"], [picked], axis=1)
    elif len(source.type.tensor_type.shape.dim) != 1 + len(column.shape):
        node = helper.make_node("Reshape", [source.name, f"slipway/shape/{column.name}"], [picked])
    else:
        node = helper.make_node("Identity", [source.name], [picked])
    if source.type.tensor_type.elem_type == _TYPES[column.datatype]:
        return [node, helper.make_node("Identity", [picked], [column.name])]
    return [node, helper.make_node("Cast", [picked], [column.name], to=_TYPES[column.datatype])]


def _shape(column: Column) -> TensorProto:
    return helper.make_tensor(
        f"slipway/shape/{column.name}",
        TensorProto.INT64,
        [1 + len(column.shape)],
        [-1, *column.shape],
    )


def _value(column: Column, scalar: tuple[int, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(
        column.name, _TYPES[column.datatype], [_ROWS, *(column.shape or scalar)]
    )


@dataclass(frozen=True)
class GraphInput:
    """An input of an imported graph."""

    column: Column
    dimensions: tuple[int, ...]
    """Shape of one row in the graph; a scalar column has ``()`` or ``(1,)`` there."""
    dtype: np.dtype[Any]


def read(path: Path) -> Graph:
    """Read a graph with all its weights, also those in files beside it. Raises Refused."""
    try:
        return onnx.load(str(path))
    except Exception as error:  # the exceptions of protobuf, onnx and the OS have no common base
        raise Refused(f"{path.name} is not an ONNX graph that can be read: {error}") from error


def read_alone(path: Path) -> Graph:
    """Read a graph that is one file. Raises Refused."""
    try:
        graph = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # the exceptions of protobuf and onnx have no common base
        raise Refused(f"{path.name} is not an ONNX model: {error}") from error
    if not graph.graph.output:
        raise Refused(f"{path.name} is not an ONNX model: it has no graph")
    if any(each.data_location == TensorProto.EXTERNAL for each in graph.graph.initializer):
        raise Refused(
            f"{path.name} has its weights in other files: save it as one file (the default of "
            "onnx.save_model)"
        )
    return graph


def parse(content: bytes) -> Graph:
    """Return the graph of a model file."""
    return onnx.load_from_string(content)


def without_zip_maps(graph: Graph) -> tuple[Graph, dict[str, tuple[str, ...]]]:
    """Return the graph with tensors instead of dictionaries, and the class names of each output.

    skl2onnx ends a classifier with the node ZipMap unless its option is off; V2 has no
    dictionaries. The class names are the keys of the dictionaries.
    """
    model, classes = ModelProto(), {}
    model.CopyFrom(graph)
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            keys = [
                key for attribute in node.attribute for key in (*attribute.strings, *attribute.ints)
            ]
            classes[node.output[0]] = tuple(
                key.decode() if isinstance(key, bytes) else str(key) for key in keys
            )
            node.CopyFrom(helper.make_node("Identity", list(node.input), list(node.output)))
    for output in model.graph.output:
        if output.name in classes:
            output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None))
    return model, classes


def inputs_of(graph: Graph) -> list[GraphInput]:
    """Return names, datatypes and shapes of the graph's inputs.

    Raises Refused when rows and columns cannot be distinguished.
    """
    constants = {each.name for each in graph.graph.initializer}
    return [_input(value) for value in graph.graph.input if value.name not in constants]


def inputs_for(graph: Graph, signature: Signature) -> list[GraphInput]:
    """Return the graph's inputs with the shapes of the signature.

    The signature may fix a dimension that is free in the graph. Raises Refused.
    """
    constants = {each.name for each in graph.graph.initializer}
    given = {value.name: value for value in graph.graph.input if value.name not in constants}
    named = [column.name for column in signature.inputs]
    for name in named:
        if name not in given:
            raise Refused(
                f"the signature has the input {name!r}; the graph takes "
                f"{', '.join(given) or 'none'}"
            )
    if more := given.keys() - set(named):
        raise Refused(
            f"the graph also requires {min(more)!r}; the signature has {', '.join(named)}"
        )
    return [_input_for(given[column.name], column) for column in signature.inputs]


def _input_for(value: ValueInfoProto, column: Column) -> GraphInput:
    rest, datatype = _row(value), _datatype(value)
    if datatype is not column.datatype:
        raise Refused(
            f"input {value.name!r} of the graph is {datatype}; the signature has {column.datatype}"
        )
    expected = column.shape or (1,) * min(len(rest), 1)
    if len(rest) != len(expected) or any(
        size not in (None, length) for size, length in zip(rest, expected, strict=True)
    ):
        shape = ["rows", *("free" if size is None else size for size in rest)]
        raise Refused(
            f"input {value.name!r} of the graph has the shape {shape}; the signature has "
            f"{list(column.shape)} per row"
        )
    return GraphInput(
        column, expected, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    )


def _input(value: ValueInfoProto) -> GraphInput:
    rest, datatype = _row(value), _datatype(value)
    sizes = tuple(size for size in rest if size is not None)
    if len(sizes) != len(rest):
        raise Refused(
            f"input {value.name!r} of the graph has more than one free dimension: only the "
            "first may be free"
        )
    column = Column(name=value.name, datatype=datatype, shape=() if sizes == (1,) else sizes)
    return GraphInput(
        column, sizes, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    )


def _datatype(value: ValueInfoProto) -> Datatype:
    kind = value.type.tensor_type.elem_type
    if kind not in _DATATYPES:
        raise Refused(f"input {value.name!r} of the graph is not a tensor of a V2 datatype")
    return _DATATYPES[kind]


def _row(value: ValueInfoProto) -> list[int | None]:
    """Return the sizes of one row, None where free. Raises Refused when the rows are fixed."""
    dimensions = value.type.tensor_type.shape.dim
    free, *rest = [None if size.dim_value < 1 else size.dim_value for size in dimensions] or [0]
    if free is not None:
        raise Refused(
            f"input {value.name!r} of the graph takes a fixed number of rows: export it with "
            "a free first dimension"
        )
    return rest


def output_column(
    name: str, array: np.ndarray[Any, Any], rows: int, classes: Sequence[str] = ()
) -> Column:
    """Return the column of an output from its ``array`` for that many rows.

    ``classes`` are the names of a vector's values. Raises Refused when it has not one value per
    row, or not a V2 datatype.
    """
    if array.ndim == 0 or array.shape[0] != rows:
        raise Refused(
            f"output {name!r} has the shape {list(array.shape)} for {rows} rows: the first "
            "dimension must be the rows"
        )
    kind = (
        TensorProto.STRING
        if array.dtype.kind in "OUS"
        else helper.np_dtype_to_tensor_dtype(array.dtype)
    )
    if kind not in _DATATYPES:
        raise Refused(f"output {name!r} has no V2 datatype")
    shape = () if array.shape[1:] == (1,) else array.shape[1:]
    return Column(
        name=name,
        datatype=_DATATYPES[kind],
        shape=shape,
        classes=tuple(classes) if shape == (len(classes),) else None,
    )


def with_outputs(
    graph: Graph, columns: Sequence[Column], scalars: dict[str, tuple[int, ...]]
) -> Graph:
    """Return the graph with exactly these outputs declared, each with its shape.

    ``scalars`` has the outputs that are [rows, 1].
    """
    declared = ModelProto()
    declared.CopyFrom(graph)
    del declared.graph.output[:]
    declared.graph.output.extend(_value(column, scalars.get(column.name, ())) for column in columns)
    return declared
