"""Rows for a model, [rows, *shape] by input name: from a request, from a file, or generated."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway_contract.errors import InvalidInput, InvalidOutput, MalformedRequest
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, Tensor, check_values, element_count, parse_request
from slipway_contract.values import plain_values

from slipway_jobs.data.table_file import TableFile
from slipway_jobs.errors import CorruptTable, Refused

Arrays = dict[str, NDArray[Any]]


def of_request(body: bytes, signature: Signature) -> Arrays:
    """Return the rows of a V2 request. Raises Refused."""
    try:
        request = parse_request(body)
        signature.check(request.inputs)
    except (InvalidInput, MalformedRequest) as error:
        raise Refused(f"the example does not fit the signature: {error}") from None
    given = {tensor.name: tensor.data for tensor in request.inputs}
    return {column.name: _array(column, given[column.name]) for column in signature.inputs}


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
        arrays = {name: _array(columns[name], values) for name, values in given.items()}
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


def _array(column: Column, values: Any) -> NDArray[Any]:
    """Return the values as an array. Raises ValueError for values that numpy would truncate."""
    given = np.asarray(values)
    if column.datatype.is_integer and given.dtype.kind == "f" and np.any(given != np.trunc(given)):
        raise ValueError(
            f"{column.name} has numbers that are not integers; {column.datatype} is expected"
        )
    return np.asarray(values, column.datatype.dtype).reshape(-1, *column.shape)


def generate_rows(signature: Signature, rows: int, seed: int = 0) -> Arrays:
    """Return rows that the signature allows, from a seeded generator; the first is simple."""
    random = np.random.default_rng(seed)
    return {column.name: _generate_column(column, rows, random) for column in signature.inputs}


def _generate_column(column: Column, rows: int, random: np.random.Generator) -> NDArray[Any]:
    shape = (rows, *column.shape)
    if column.datatype is Datatype.BYTES:
        texts = [
            f"text {number}"[: column.max_length]
            for number in range(rows * element_count(column.shape))
        ]
        return np.array(texts, object).reshape(shape)
    if column.codes:
        values = random.choice(np.array(list(column.codes)), shape)
    elif column.minimum is not None and column.maximum is not None:
        values = random.uniform(column.minimum, column.maximum, shape)
    else:
        # The scale is unknown: use ones, tens and hundreds.
        values = random.normal(size=shape) * 10.0 ** random.integers(
            0, 3, (rows, *(1 for _ in column.shape))
        )
        values = np.clip(values, column.minimum, column.maximum)
    values[0] = _plainest(column)
    if column.datatype is Datatype.BOOL:
        return values > 0
    if column.datatype.is_integer:
        bounds = np.iinfo(column.datatype.dtype)
        values = np.clip(np.trunc(values), max(bounds.min, -(2**31)), min(bounds.max, 2**31))
    return values.astype(column.datatype.dtype)


def _plainest(column: Column) -> float:
    if column.codes:
        return next(iter(column.codes))
    return float(np.clip(0, column.minimum, column.maximum))


def as_output(column: Column, array: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return a model's output as [rows, *shape]. Raises Refused when it has another shape."""
    if not column.has_shape(array.shape, rows):
        raise Refused(
            f"output {column.name!r} has the shape {list(array.shape)} for {rows} rows; "
            f"{[rows, *column.shape]} is expected"
        )
    return array.reshape(rows, *column.shape)


def check_outputs(signature: Signature, outputs: Mapping[str, NDArray[Any]], rows: int) -> None:
    """Raise Refused unless the outputs fit the datatypes, bounds and codes of the signature."""
    tensors = [
        Tensor.model_construct(
            name=name,
            shape=list(array.shape),
            datatype=_datatype_of(array),
            data=array.reshape(-1).tolist(),
        )
        for name, array in outputs.items()
    ]
    try:
        signature.check_answer(tensors, rows)
    except InvalidOutput as error:
        raise Refused(
            f"{error}: correct the signature, or give representative rows by --expected "
            "or --example"
        ) from None


def _datatype_of(array: NDArray[Any]) -> Datatype:
    return (
        Datatype.BYTES
        if array.dtype.kind in "OUS"
        else Datatype(array.dtype.name.upper().replace("FLOAT", "FP"))
    )


def request_of(signature: Signature, row: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the first row as a V2 request."""
    values = {}
    for column in signature.inputs:
        plain = [
            None if value != value else value for value in row[column.name][:1].reshape(-1).tolist()
        ]
        values[column.name] = plain if column.shape else plain[0]
    request = signature.request([values])
    return request.model_dump_json(exclude_none=False, exclude_unset=True, indent=1).encode()
