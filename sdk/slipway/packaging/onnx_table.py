"""The graph of an ONNX file behind a table: one input for each column."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype

from slipway.errors import WrongParameter
from slipway.packaging.frames import fitted_columns, frame_rows, infer_inputs
from slipway.packaging.model import PackagedModel
from slipway.packaging.onnx_file import of_onnx
from slipway.packaging.rows import request_of


def of_graph(
    path: Path, frames: Mapping[str, pd.DataFrame], signature: Signature | None
) -> PackagedModel:
    """Return the model in an ONNX file, with the inputs as the rows show them.

    Datatypes are those of the graph; missing values, codes and categories those of the rows.
    Raises WrongParameter for rows that do not fit, and Refused for a graph that cannot be served.
    """
    found = signature or of_onnx(path, None, None).signature
    for column in found.inputs if signature is None else ():
        if column.shape:
            raise WrongParameter(
                f"signature: is not given, and {path.name} has the input {column.name!r} with "
                f"{list(column.shape)} values per row, which a table does not describe; give a "
                "signature, and an array for each row in the column"
            )
    names = [column.name for column in found.inputs]
    frames = {field: fitted_columns(names, frame, field) for field, frame in frames.items()}
    if signature is None:
        shown = {column.name: column for column in infer_inputs(frames)}
        inputs = tuple(_as_shown(column, shown[column.name]) for column in found.inputs)
        signature = Signature(inputs=inputs, outputs=found.outputs)
    rows = {field: frame_rows(frame, signature.inputs) for field, frame in frames.items()}
    example = next(iter(rows.values()))
    model = of_onnx(path, signature, request_of(signature, example))
    model.check_samples(rows.values())
    return model


def _as_shown(column: Column, shown: Column) -> Column:
    """Return the graph's input with what the rows show. Raises WrongParameter."""
    if Datatype.BYTES in (column.datatype, shown.datatype) and column.datatype != shown.datatype:
        raise WrongParameter(
            f"{column.name}: the rows have {shown.datatype}; the graph takes {column.datatype}"
        )
    if shown.missing and not (column.datatype.is_float or column.datatype is Datatype.BYTES):
        raise WrongParameter(
            f"{column.name}: has missing values, which {column.datatype} of the graph has not; "
            "replace them, or export the graph with a floating-point input"
        )
    return shown.model_copy(update={"datatype": column.datatype})
