"""Open Inference Protocol (V2) types over JSON.

Source: the KServe Open Inference Protocol, "HTTP/REST" and "Tensor Data" sections, and Triton's
`parameters` extension. A tensor's `data` may be flat or nested in row-major order in JSON; here it
is always flat.
"""

import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, NoReturn, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from slipway_contract.body import FIELDS, VALUES, CallerBody, read_json
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues

Scalar = bool | int | float | str | bytes | None
Parameters = Annotated[dict[str, Any], Field(max_length=FIELDS)]
DIMENSIONS = 32
"""Limit of dimensions of a tensor: numpy's limit before 2.0."""
TENSORS = 2**13
"""Limit of inputs, and of outputs, of one request."""


class Datatype(StrEnum):
    """Tensor element types of the protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def size(self) -> int | None:
        """Bytes per element; None for BYTES, whose elements vary."""
        return None if self is Datatype.BYTES else _SIZES[self]

    @property
    def is_integer(self) -> bool:
        return self.value.startswith(("INT", "UINT"))

    @property
    def is_float(self) -> bool:
        return self.value.startswith("FP")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest finite value that fits; None for BOOL and BYTES."""
        return _BOUNDS.get(self)

    @property
    def dtype(self) -> str:
        """NumPy's name of the type, little-endian as in binary tensors; texts are objects."""
        return _DTYPES[self]

    @property
    def onnx(self) -> str:
        """Name of the element type in ONNX: ``TensorProto.DataType`` of onnx.proto."""
        return _ONNX.get(self, self.value)


_SIZES: dict[Datatype, int] = {
    d: 1 if d is Datatype.BOOL else int("".join(filter(str.isdigit, d))) // 8
    for d in Datatype
    if d is not Datatype.BYTES
}
_DTYPES: dict[Datatype, str] = {
    Datatype.BOOL: "?",
    Datatype.BYTES: "O",
    **{d: f"<{d[0].lower()}{d.size}" for d in Datatype if d.is_integer or d.is_float},
}
_ONNX: dict[Datatype, str] = {
    Datatype.FP16: "FLOAT16",
    Datatype.FP32: "FLOAT",
    Datatype.FP64: "DOUBLE",
    Datatype.BYTES: "STRING",
}
_BOUNDS: dict[Datatype, tuple[float, float]] = {
    # IEEE 754: the largest finite half, single and double precision numbers.
    Datatype.FP16: (-65504.0, 65504.0),
    # Single precision's is written 3.4028235e38, which is a little more and is rounded to it.
    Datatype.FP32: (-3.4028235e38, 3.4028235e38),
    Datatype.FP64: (-1.7976931348623157e308, 1.7976931348623157e308),
    **{d: (0, 2 ** (8 * _SIZES[d]) - 1) for d in Datatype if d.startswith("UINT")},
    **{
        d: (-(2 ** (8 * _SIZES[d] - 1)), 2 ** (8 * _SIZES[d] - 1) - 1)
        for d in Datatype
        if d.startswith("INT")
    },
}
_INFINITE = {math.inf, -math.inf}
_TYPES: dict[str, set[type]] = {"BOOL": {bool}, "BYTES": {str, bytes}}


def check_values(
    field: str, datatype: Datatype, values: Sequence[Any], *, missing: bool = False
) -> None:
    """Raise InvalidInput unless every value is of the datatype and in its range.

    ``missing`` lets None stand for a missing value in floating-point tensors and texts, and NaN in
    the former. The checks
    are built of C-speed builtins: a request of 65,536 numbers costs a few milliseconds.
    """
    allowed = _TYPES.get(datatype) or ({int, float} if datatype.is_float else {int})
    found = set(map(type, values)) - allowed
    if found == {type(None)} and missing and (datatype.is_float or datatype is Datatype.BYTES):
        found, values = set(), [v for v in values if v is not None]
    if found:
        at, value = next((i, v) for i, v in enumerate(values) if type(v) in found)
        if (
            type(value) is float
            and datatype.bounds
            and math.isfinite(value)
            and not _within(value, datatype.bounds)
        ):
            # Parsers return a whole number of more than 64 bits as a float.
            _refuse_size(field, datatype, at, value)
        word = "null (missing)" if value is None else f"{short(value)} ({type(value).__name__})"
        raise InvalidInput(field, f"value {at} is {word}; {datatype} is expected")
    if datatype.bounds is None or not values:
        return
    if datatype.is_float:
        # Only NaN differs from itself; math.isnan fails on very large ints.
        some_nan = any(map(operator.ne, values, values))
        if not _INFINITE.isdisjoint(values) or (some_nan and not missing):
            both, infinity = "NaN and infinity are not accepted", "infinity is not accepted"
            raise InvalidInput(field, infinity if missing else both)
        values = [v for v in values if v == v] if some_nan else values
    if values and not (
        _within(min(values), datatype.bounds) and _within(max(values), datatype.bounds)
    ):
        at = next(i for i, v in enumerate(values) if not _within(v, datatype.bounds))
        _refuse_size(field, datatype, at, values[at])


def _within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _refuse_size(field: str, datatype: Datatype, at: int, value: float) -> NoReturn:
    low, high = datatype.bounds or (-math.inf, math.inf)
    raise InvalidInput(
        field, f"value {at} is {short(value)}, which does not fit {datatype} ({low:g} to {high:g})"
    )


# A plain repr of a value nested 1,000 deep raises, and that of a long list takes memory.
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxlong = _brief.maxother = 40


def short(value: object) -> str:
    """Return at most 40 characters of the value's repr, for an error text."""
    text = _brief.repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def element_count(shape: Iterable[int]) -> int:
    """Return the number of elements of a tensor of that shape."""
    return math.prod(shape)


def flatten(field: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Return ``data`` in row-major order as a flat list; nested lists must have exactly the shape.

    Raises InvalidInput when the number of elements or a nested length does not match ``shape``.
    """
    if data and isinstance(data[0], list):
        for depth, size in enumerate(shape):
            if depth:
                if any(type(row) is not list for row in data):
                    raise InvalidInput(
                        field, f"data is ragged or not nested as shape {list(shape)}"
                    )
                if any(len(row) != size for row in data):
                    problem = f"dimension {depth} is not {size} long"
                    raise InvalidInput(
                        field, f"data does not have the shape {list(shape)}: {problem}"
                    )
                data = [value for row in data for value in row]
            elif len(data) != size:
                raise InvalidInput(
                    field, f"data has {len(data)} rows; shape {list(shape)} needs {size}"
                )
    if len(data) != element_count(shape):
        raise InvalidInput(
            field, f"data has {len(data)} values; shape {list(shape)} needs {element_count(shape)}"
        )
    return data


Shape = Annotated[list[int], Field(fail_fast=True, max_length=DIMENSIONS)]


class Tensor(CallerBody):
    """A named tensor: ``data`` flat, row-major; ``shape`` in elements, first dimension = rows."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    shape: Shape
    datatype: Datatype
    parameters: Parameters | None = None
    data: list[Any]

    @field_validator("parameters")
    @classmethod
    def _are_supported(
        cls, given: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        return _check_parameters(info.data.get("name", "inputs"), given, info)

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> Self:
        if any(size < 0 for size in self.shape):
            raise InvalidInput(self.name, f"shape {self.shape} has a negative dimension")
        self.data = flatten(self.name, self.data, self.shape)
        if info.context is not _WITHOUT_VALUES:
            # The signature, not the protocol, defines whether a value may be missing.
            check_values(self.name, self.datatype, self.data, missing=True)
        return self


_WITH_VALUES = {"values": True}
"""Validation context of a request."""
_WITHOUT_VALUES = {"values": False}
"""Validation context of a request whose values the signature checks."""


CONTENT_TYPES = frozenset({"np", "pd", "str"})
"""Values of MLServer's parameter ``content_type`` that leave the data as V2 defines it.

Any other value encodes the data further.
"""
_BINARY = (
    "outputs of this request are JSON; send its inputs as binary data, or leave the parameter out"
)
_SHARED_MEMORY = "send the values as data"
_SEQUENCE = "models have no state between requests; leave it out"
UNSUPPORTED: Mapping[str, str] = {
    "binary_data": _BINARY,
    "binary_data_output": _BINARY,
    "classification": "send the rows to POST /v1/models/{model}/predictions?top=3",
    "priority": "send the header Slipway-Priority with Prefer: respond-async",
    "sequence_end": _SEQUENCE,
    "sequence_id": _SEQUENCE,
    "sequence_start": _SEQUENCE,
    "shared_memory_byte_size": _SHARED_MEMORY,
    "shared_memory_offset": _SHARED_MEMORY,
    "shared_memory_region": _SHARED_MEMORY,
    "timeout": "the gateway has a time limit of its own; leave it out",
}
"""Parameters of known extensions of the protocol that would change a request, with remedies."""


def _check_parameters(
    field: str, given: dict[str, Any] | None, info: ValidationInfo
) -> dict[str, Any] | None:
    """Raise InvalidInput for a parameter of an unsupported extension; ignore unknown parameters."""
    if not given or info.context is None:  # the parameters of a response are not the caller's
        return given
    for name, value in given.items():
        if name in UNSUPPORTED and value not in (None, False, 0, ""):
            raise InvalidInput(field, f"parameter {name} is not supported: {UNSUPPORTED[name]}")
    kind = given.get("content_type")
    if kind is not None and not (isinstance(kind, str) and kind in CONTENT_TYPES):
        known = ", ".join(sorted(CONTENT_TYPES))
        problem = (
            f"content_type {short(kind)} is not supported: send the values themselves, with "
            f"{known} or no content_type"
        )
        raise InvalidInput(field, problem)
    return given


class RequestedOutput(CallerBody):
    """An output that the caller requests by name."""

    name: str = Field(min_length=1)
    parameters: Parameters | None = None

    @field_validator("parameters")
    @classmethod
    def _are_supported(
        cls, given: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        return _check_parameters(info.data.get("name", "outputs"), given, info)


RequestedOutputs = Annotated[list[RequestedOutput], Field(fail_fast=True, max_length=TENSORS)]


class InferenceRequest(CallerBody):
    """Body of ``POST /v2/models/{name}/infer``."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=TENSORS, fail_fast=True)
    outputs: RequestedOutputs | None = None

    @field_validator("parameters")
    @classmethod
    def _are_supported(
        cls, given: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        return _check_parameters("parameters", given, info)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names: set[str] = set()
        for tensor in self.inputs:
            if tensor.name in names:
                raise InvalidInput(tensor.name, "given more than once")
            names.add(tensor.name)
        return self


class InferenceResponse(BaseModel):
    """Response of ``POST /v2/models/{name}/infer``."""

    # "model_" is the protocol's own prefix here, not pydantic's.
    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str | None = None
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Tensor]


class TensorMetadata(BaseModel):
    """Name, datatype and shape of an input or output; -1 is a dimension of any size."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters | None = None


class ModelMetadata(BaseModel):
    """Response of ``GET /v2/models/{name}``."""

    name: str
    versions: list[str] | None = None
    platform: str
    inputs: list[TensorMetadata] = []
    outputs: list[TensorMetadata] = []
    parameters: Parameters | None = None


class ServerMetadata(BaseModel):
    """Response of ``GET /v2``."""

    name: str
    version: str
    extensions: list[str] = []


def parse_request(
    body: bytes,
    limit: int = VALUES,
    *,
    loads: Callable[[bytes], Any] = from_json,
    values: bool = True,
) -> InferenceRequest:
    """Return the V2 JSON request in a body with at most ``limit`` values.

    ``loads`` parses JSON and raises ValueError. Without ``values`` only the number of values is
    checked, not their types and ranges. Raises TooManyValues; MalformedRequest when the body is not
    JSON or not of the protocol's structure; InvalidInput when a tensor's shape, size or values are
    wrong, or a parameter is not supported.
    """
    content = read_json(body, limit, loads)
    try:
        request = InferenceRequest.model_validate(
            content, context=_WITH_VALUES if values else _WITHOUT_VALUES
        )
    except ValidationError as error:
        raise explain(error) from None
    if sum(len(tensor.data) for tensor in request.inputs) > limit:
        raise TooManyValues(limit)
    return request


def explain(error: ValidationError) -> InvalidInput | MalformedRequest:
    """Return the first finding of a pydantic error as an error of this package."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InvalidInput):
        return cause
    where = ".".join(str(part) for part in first["loc"])
    return MalformedRequest(f"{where}: {first['msg']}" if where else first["msg"])
