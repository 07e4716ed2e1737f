"""Rows for a model, [rows, *shape] by input name: from a request, or generated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from slipway_contract.errors import InvalidInput, InvalidOutput, MalformedRequest
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, Tensor, element_count, parse_request

from slipway.errors import Refused

Arrays = dict[str, NDArray[Any]]


def of_request(body: bytes, signature: Signature) -> Arrays:
    """Return the rows of a V2 request. Raises Refused."""
    try:
        request = parse_request(body)
        signature.check(request.inputs)
    except (InvalidInput, MalformedRequest) as error:
        raise Refused(f"the example does not fit the signature: {error}") from None
    given = {tensor.name: tensor.data for tensor in request.inputs}
    return {column.name: as_input(column, given[column.name]) for column in signature.inputs}


def as_input(column: Column, values: Any) -> NDArray[Any]:
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
