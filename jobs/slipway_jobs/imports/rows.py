"""Rows for a model, [rows, *shape] by name, from a file."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from slipway.errors import CorruptTable, Refused
from slipway.packaging.rows import Arrays, as_input
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import check_values
from slipway_contract.values import plain_values

from slipway_jobs.data.table_file import TableFile


def of_file(path: Path, signature: Signature) -> tuple[Arrays, Arrays]:
    """Return the inputs and the expected outputs from an ``.npz``, CSV or Parquet file.

    Raises Refused, CorruptTable.
    """
    columns = {column.name: column for column in (*signature.inputs, *signature.outputs)}
    if len(columns) < len(signature.inputs) + len(signature.outputs):
        raise Refused("an input and an output have the same name, so a file cannot have both")
    given = _npz(path) if path.suffix == ".npz" else _table(path, signature)
    if missing := [column.name for column in signature.inputs if column.name not in given]:
        raise Refused(f"{path.name} has no {', '.join(missing)}, which the model takes")
    if unknown := given.keys() - columns.keys():
        raise Refused(f"{path.name} has {min(unknown)!r}, which is no input or output of the model")
    try:
        arrays = {name: as_input(columns[name], values) for name, values in given.items()}
    except (ValueError, TypeError) as error:
        raise Refused(f"{path.name} does not fit the signature: {error}") from None
    if len({len(array) for array in arrays.values()}) != 1 or not len(next(iter(arrays.values()))):
        raise Refused(
            f"{path.name} must have the same number of rows for each name, and at least one"
        )
    inputs = {column.name: arrays.pop(column.name) for column in signature.inputs}
    if not arrays:
        raise Refused(
            f"{path.name} has none of the outputs "
            f"{', '.join(column.name for column in signature.outputs)}"
        )
    return inputs, arrays


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Refused(f"{path.name} is not an .npz file of plain arrays: {error}") from None


def _table(path: Path, signature: Signature) -> dict[str, Any]:
    everything = Signature(
        inputs=(*signature.inputs, *signature.outputs), outputs=signature.outputs
    )
    found: dict[str, list[Any]] = {column.name: [] for column in everything.inputs}
    number = 0
    for chunk in TableFile(
        path, "parquet" if path.suffix == ".parquet" else "csv", everything
    ).chunks():
        for row in chunk.rows:
            number += 1
            if row.problem:
                raise CorruptTable(f"{path.name}, row {number}: {row.problem}")
            for name, value in row.values.items():
                found[name].append(value)
    try:
        return {column.name: _checked(column, found[column.name]) for column in everything.inputs}
    except InvalidInput as error:
        raise CorruptTable(f"{path.name}: {error}") from None


def _checked(column: Column, values: list[Any]) -> list[Any]:
    """Return values of the datatype. Raises InvalidInput.

    Lists are left to numpy, which finds their shape.
    """
    if column.shape:
        return values
    plain = list(plain_values(column.name, column.datatype, values))
    check_values(column.name, column.datatype, plain, missing=column.datatype.is_float)
    return plain
