"""A graph that ``mlflow.onnx.log_model`` has logged; its outputs are found by trial."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from slipway.errors import Refused
from slipway.packaging.inference import load_onnx
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_file import understand
from slipway.packaging.onnx_graph import GraphInput, inputs_of, read
from slipway.packaging.rows import Arrays, as_output
from slipway_contract.registry import ArtifactFormat

from slipway_jobs.registry.mlmodel import LoggedModel

_MOST_VALUES = 10**8
"""Most values of an input per row: an image of 5,000 by 5,000 pixels has fewer."""


def of_logged_graph(path: Path, logged: LoggedModel) -> tuple[PackagedModel, Arrays]:
    """Return the package of a graph, which is served unchanged, and its rows. Raises Refused.

    The rows are those of the input example, or one of zeros and empty texts. A value may be missing
    if one of the example is, or if MLflow's signature has it as not required.
    """
    graph = read(path)
    found = inputs_of(graph)
    for each in found:
        if math.prod(each.dimensions) > _MOST_VALUES:
            raise Refused(
                f"input {each.column.name!r} of the graph has the shape {list(each.dimensions)} "
                f"per row; at most {_MOST_VALUES} values are adopted"
            )
    optional = {str(each.name) for each in logged.description.inputs if each.missing}
    inputs, rows = with_rows(found, logged.example(), optional)
    declared = [output.name for output in graph.graph.output]
    first = {name: values[:1] for name, values in rows.items()}
    graph, signature = understand(graph, inputs, first)
    left_out = sorted(set(declared) - {column.name for column in signature.outputs})
    content = graph.SerializeToString()
    run = load_onnx(content)

    def predict_rows(given: Arrays) -> Arrays:
        outputs, count = run(given), len(next(iter(given.values())))
        return {
            column.name: as_output(column, outputs[column.name], count)
            for column in signature.outputs
        }

    origin = "An ONNX graph, served unchanged" + (
        f" but for outputs that are no tensor or not per row: {', '.join(left_out)}."
        if left_out
        else "."
    )
    packaged = PackagedModel(ArtifactFormat.ONNX, content, signature, predict_rows, origin)
    packaged.check_outputs(rows)
    return packaged, rows


def with_rows(
    inputs: list[GraphInput], example: Any, optional: set[str]
) -> tuple[list[GraphInput], Arrays]:
    """Return the inputs, and the rows of the example in the graph's shapes.

    Without an example that fits, there is one row of zeros and empty texts.
    """
    try:
        parts = {each.column.name: _part(example, each.column.name, inputs) for each in inputs}
        rows = {each.column.name: _rows(parts[each.column.name], each) for each in inputs}
        fewest = min(len(values) for values in rows.values())
        rows = {name: values[:fewest] for name, values in rows.items()}
        optional = optional | {
            name for name, part in parts.items() if pd.isna(np.asarray(part)).any()
        }
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        rows = {
            each.column.name: np.full(
                (1, *each.dimensions), "" if each.dtype.kind == "O" else 0, each.dtype
            )
            for each in inputs
        }
    return [
        replace(each, column=each.column.model_copy(update={"missing": True}))
        if each.column.name in optional and each.dtype.kind in "fO"
        else each
        for each in inputs
    ], rows


def _part(example: Any, name: str, inputs: list[GraphInput]) -> Any:
    """Return the example's values of an input. Raises KeyError."""
    if isinstance(example, Mapping) or (len(inputs) > 1 and isinstance(example, pd.DataFrame)):
        return example[name]
    if example is None or len(inputs) > 1:
        raise KeyError(name)
    return example


def _rows(values: Any, each: GraphInput) -> np.ndarray[Any, Any]:
    """Return the values in the graph's shape. Raises ValueError."""
    given = np.asarray(values).reshape(-1, *each.dimensions)
    if not len(given):
        raise ValueError("no rows")
    if each.dtype.kind == "O":
        given = np.where(pd.isna(given), "", given).astype(object)
        if not all(isinstance(value, str) for value in given.reshape(-1).tolist()):
            raise ValueError("not a text")
    elif each.dtype.kind != "f" and pd.isna(given).any():
        raise ValueError("a missing value")
    elif given.dtype.kind == "f" and np.isinf(given).any():
        raise ValueError("an infinite value")
    return given.astype(each.dtype)
