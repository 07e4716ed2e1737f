"""V2's binary tensor data extension: between bodies with raw tensors and the JSON that predictors
read and the log keeps.

Such a body is JSON of ``Inference-Header-Content-Length`` bytes and behind it, in their order, the
tensors that have a ``binary_data_size`` there: little-endian, row-major, without gaps; each element
of BYTES after its length as a uint32.

Source: KServe's "Binary Tensor Data Extension" of the V2 protocol, which is Triton's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ConfigDict, Field, NonNegativeInt, ValidationError
from slipway_contract.body import VALUES, CallerBody, read_json
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from slipway_contract.v2 import (
    DIMENSIONS,
    TENSORS,
    Datatype,
    InferenceResponse,
    Parameters,
    RequestedOutputs,
    Tensor,
    element_count,
    explain,
)

from slipway_gateway.errors import TooLarge

HEADER = b"inference-header-content-length"
CONTENT_TYPE = b"application/octet-stream"
ASKED = b'"binary_data'
"""What stands in every JSON that asks for binary outputs."""

DTYPES: Mapping[Datatype, str] = {
    Datatype.BOOL: "?",
    **{each: f"<{each[0].lower()}{each.size}" for each in Datatype if each.is_integer},
    **{each: f"<f{each.size}" for each in Datatype if each.is_float},
}
"""numpy's names. It is imported with the first binary tensor: its 15 MiB are nothing for a gateway
that never sees one.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which outputs the caller wants as binary data."""

    named: Mapping[str, bool] = field(default_factory=dict)
    others: bool = False

    def __bool__(self) -> bool:
        return self.others or any(self.named.values())

    def __contains__(self, output: str) -> bool:
        return self.named.get(output, self.others)


class _Input(CallerBody):
    model_config = ConfigDict(extra="allow")

    name: str
    shape: list[NonNegativeInt] = Field(max_length=DIMENSIONS, fail_fast=True)
    datatype: Datatype
    parameters: Parameters | None = None
    data: Any = None


class _Request(CallerBody):
    model_config = ConfigDict(extra="allow")

    parameters: Parameters | None = None
    inputs: list[_Input] = Field(max_length=TENSORS, fail_fast=True)
    outputs: RequestedOutputs | None = None


def read_request(
    body: bytes, header_length: bytes | None, limit: int, most: int = VALUES
) -> tuple[bytes, Wanted]:
    """The request as JSON alone, without the extension's parameters; and what was asked by them.

    It has at most ``limit`` bytes and ``most`` binary values. Raises MalformedRequest, InvalidInput
    naming the input, TooLarge, TooManyValues.
    """
    length = _length(header_length, len(body))
    content = read_json(
        body[:length], most, orjson.loads
    )  # as predictors parse it, so that all of it can be written again
    try:
        request = _Request.model_validate(content)
    except ValidationError as error:
        raise explain(error) from None
    wanted = Wanted(
        {
            each.name: flag
            for each in request.outputs or ()
            if (flag := _flag(each.parameters, "binary_data")) is not None
        },
        _flag(request.parameters, "binary_data_output") or False,
    )
    values = 0
    for tensor, piece in _pieces(request.inputs, memoryview(body)[length:]):
        values += element_count(tensor.shape)
        if values > most:
            raise TooManyValues(most)
        tensor.data = _values(tensor, piece)
    if values * 2 > limit:  # each takes two bytes of JSON or more
        raise TooLarge(limit)
    text = orjson.dumps(request.model_dump(exclude_unset=True), option=orjson.OPT_SERIALIZE_NUMPY)
    if len(text) > limit:
        raise TooLarge(limit)
    return text, wanted


def _length(header: bytes | None, size: int) -> int:
    if header is None:
        return size
    length = int(header) if header.isdigit() and len(header) < 20 else size + 1
    if length > size:
        raise MalformedRequest(
            "Inference-Header-Content-Length is not the length of the JSON in the body"
        )
    return length


def _flag(parameters: Parameters | None, name: str) -> bool | None:
    flag = (parameters or {}).pop(name, None)
    if flag is not None and not isinstance(flag, bool):
        raise MalformedRequest(f"{name} must be true or false")
    return flag


def _pieces(inputs: list[_Input], rest: memoryview) -> Iterator[tuple[_Input, bytes]]:
    """Each input that is binary, with its part of what follows the JSON; all of that must belong to
    one.
    """
    for each in inputs:
        size = (each.parameters or {}).pop("binary_data_size", None)
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise MalformedRequest(
                f"binary_data_size of {each.name} is not a number of bytes that follow the JSON"
            )
        if "data" in each.model_fields_set:
            raise MalformedRequest(f"{each.name} has data in the JSON and behind it")
        yield each, bytes(rest[:size])  # a copy, so that its numbers lie where numbers may lie
        rest = rest[size:]
    if len(rest):
        raise MalformedRequest(f"{len(rest)} bytes follow the JSON that belong to no input")


def _values(tensor: _Input, piece: bytes) -> Any:
    """What stands for the data in JSON. NaN is a missing value there, and so becomes null; infinity
    has no form.
    """
    import numpy as np

    count = element_count(tensor.shape)
    if tensor.datatype.size is None:
        return _texts(tensor.name, piece, count)
    needed = count * tensor.datatype.size
    if len(piece) != needed:
        raise InvalidInput(
            tensor.name,
            (
                f"binary_data_size is {len(piece)}; {tensor.datatype} of shape {tensor.shape} "
                f"needs {needed}"
            ),
        )
    if tensor.datatype is Datatype.BOOL:
        return np.frombuffer(piece, np.uint8) != 0
    values = np.frombuffer(piece, DTYPES[tensor.datatype])
    if tensor.datatype.is_float and np.isinf(values).any():
        raise InvalidInput(tensor.name, "infinity is not accepted")
    return values


def _texts(name: str, piece: bytes, count: int) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(piece):
        if len(texts) == count:
            raise InvalidInput(name, f"data has more values than the {count} of its shape")
        end = at + 4 + int.from_bytes(piece[at : at + 4], "little")
        if end > len(piece):
            raise InvalidInput(
                name, f"element {len(texts)} of BYTES is longer than the data that is left"
            )
        try:
            texts.append(piece[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise InvalidInput(
                name, f"element {len(texts)} of BYTES is not UTF-8, which JSON to the model needs"
            ) from None
        at = end
    if len(texts) != count:
        raise InvalidInput(name, f"data has {len(texts)} values; its shape needs {count}")
    return texts


def write_answer(answer: bytes, wanted: Wanted) -> tuple[bytes, int]:
    """A V2 answer with the wanted outputs behind its JSON, and the length of that. Raises
    ValidationError: it is not V2.
    """
    content = InferenceResponse.model_validate_json(answer)
    raw = []
    for tensor in content.outputs:
        if tensor.name in wanted:
            data = _raw(tensor)
            tensor.parameters = {**(tensor.parameters or {}), "binary_data_size": len(data)}
            raw.append(data)
    said = content.model_dump(exclude_none=True)
    for output in said["outputs"]:
        if output["name"] in wanted:
            del output["data"]
    head = orjson.dumps(said)
    return b"".join([head, *raw]), len(head)


def _raw(tensor: Tensor) -> bytes:
    if tensor.datatype is not Datatype.BYTES:
        import numpy as np

        return np.array(tensor.data, DTYPES[tensor.datatype]).tobytes()  # null becomes NaN
    values = [value.encode() for value in tensor.data]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)
