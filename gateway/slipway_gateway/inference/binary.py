"""Codec of V2's binary tensor data extension.

It converts bodies with raw tensors to the JSON that predictors read and the event log stores, and
back. Such a body consists of ``Inference-Header-Content-Length`` bytes of JSON, followed by the
tensors that have a ``binary_data_size`` there, in the same order: little-endian, row-major, without
gaps. Each element of BYTES follows its length as a uint32.

Source: KServe's "Binary Tensor Data Extension" of the V2 protocol, which comes from Triton.
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
"""A substring of every JSON request for binary outputs."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The outputs that the caller requests as binary data."""

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
    """Return the request as plain JSON and the outputs that it requests as binary data.

    The JSON has no parameters of the extension. ``limit`` is its maximum length in bytes and
    ``most`` the maximum number of binary values. Raises MalformedRequest, InvalidInput with the
    input's name, TooLarge, TooManyValues.
    """
    length = _length(header_length, len(body))
    # Predictors use the same parser, so that all of the content can be written again.
    content = read_json(body[:length], most, orjson.loads)
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
    if values * 2 > limit:  # a value takes at least two bytes of JSON
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
    """Yield each binary input with its bytes from ``rest``, the part of the body after the JSON.

    Raises MalformedRequest unless every byte of ``rest`` belongs to an input.
    """
    for each in inputs:
        size = (each.parameters or {}).pop("binary_data_size", None)
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise MalformedRequest(
                f"binary_data_size of {each.name} must be between 0 and the {len(rest)} bytes "
                "that follow the JSON"
            )
        if "data" in each.model_fields_set:
            raise MalformedRequest(f"{each.name} has data in the JSON and behind it")
        yield each, bytes(rest[:size])  # a copy is aligned, as numpy requires
        rest = rest[size:]
    if len(rest):
        raise MalformedRequest(f"{len(rest)} bytes follow the JSON and belong to no input")


def _values(tensor: _Input, piece: bytes) -> Any:
    """Return the tensor's values, ready for JSON: NaN becomes null, a missing value.

    Raises InvalidInput for infinity, which JSON cannot represent.
    """
    import numpy as np

    count = element_count(tensor.shape)
    if tensor.datatype.size is None:
        return _texts(tensor.name, piece, count)
    needed = count * tensor.datatype.size
    if len(piece) != needed:
        raise InvalidInput(
            tensor.name,
            f"binary_data_size is {len(piece)}; {tensor.datatype} of shape {tensor.shape} "
            f"needs {needed}",
        )
    if tensor.datatype is Datatype.BOOL:
        return np.frombuffer(piece, np.uint8) != 0
    values = np.frombuffer(piece, tensor.datatype.dtype)
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
                name, f"element {len(texts)} of BYTES is longer than the remaining data"
            )
        try:
            texts.append(piece[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise InvalidInput(
                name, f"element {len(texts)} of BYTES is not UTF-8, which the model's JSON requires"
            ) from None
        at = end
    if len(texts) != count:
        raise InvalidInput(name, f"data has {len(texts)} values; its shape needs {count}")
    return texts


def write_answer(answer: bytes, wanted: Wanted) -> tuple[bytes, int]:
    """Return a V2 response with the ``wanted`` outputs behind its JSON, and the JSON's length.

    Raises ValidationError when ``answer`` is not a V2 response.
    """
    content = InferenceResponse.model_validate_json(answer)
    raw = []
    for tensor in content.outputs:
        if tensor.name in wanted:
            data = _raw(tensor)
            tensor.parameters = {**(tensor.parameters or {}), "binary_data_size": len(data)}
            raw.append(data)
    header = content.model_dump(exclude_none=True)
    for output in header["outputs"]:
        if output["name"] in wanted:
            del output["data"]
    head = orjson.dumps(header)
    return b"".join([head, *raw]), len(head)


def _raw(tensor: Tensor) -> bytes:
    if tensor.datatype is not Datatype.BYTES:
        import numpy as np

        return np.array(tensor.data, tensor.datatype.dtype).tobytes()  # null becomes NaN
    values = [value.encode() for value in tensor.data]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)
