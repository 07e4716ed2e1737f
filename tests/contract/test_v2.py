"""V2 requests: every datatype survives a round trip, and invalid tensors are rejected by name."""

import json
import math
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json
from slipway_contract.errors import InvalidInput, MalformedRequest
from slipway_contract.v2 import (
    CONTENT_TYPES,
    UNSUPPORTED,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    Tensor,
    check_values,
    element_count,
    parse_request,
)


def values(datatype: Datatype) -> st.SearchStrategy[Any]:
    if datatype is Datatype.BOOL:
        return st.booleans()
    if datatype is Datatype.BYTES:
        return st.text(max_size=20)
    assert datatype.bounds
    low, high = datatype.bounds
    if datatype.is_integer:
        return st.integers(int(low), int(high))
    return st.floats(low, high, allow_nan=False)


def nested(flat: list[Any], shape: list[int]) -> list[Any]:
    for size in reversed(shape[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat


@st.composite
def tensors(draw: st.DrawFn) -> tuple[dict[str, Any], list[Any]]:
    """Return a tensor as JSON, nested or flat, and its flat values."""
    datatype = draw(st.sampled_from(list(Datatype)))
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = element_count(shape)
    flat = draw(st.lists(values(datatype), min_size=count, max_size=count))
    data = nested(flat, shape) if draw(st.booleans()) else flat
    return {"name": "x", "shape": shape, "datatype": datatype.value, "data": data}, flat


@pytest.mark.slow
@given(tensors())
def test_a_tensor_of_any_datatype_is_read_flat_or_nested(
    drawn: tuple[dict[str, Any], list[Any]],
) -> None:
    tensor, flat = drawn
    read = parse_request(json.dumps({"inputs": [tensor]}).encode()).inputs[0]
    assert read.data == flat
    assert Tensor.model_validate(read.model_dump()) == read


@given(tensors(), st.integers(0, 2))
def test_a_shape_that_does_not_fit_the_data_is_rejected_by_name(
    drawn: tuple[dict[str, Any], list[Any]], at: int
) -> None:
    tensor, _ = drawn
    tensor["shape"][at % len(tensor["shape"])] += 1
    with pytest.raises(InvalidInput, match=r"^x: "):
        parse_request(json.dumps({"inputs": [tensor]}).encode())


def refusal(body: bytes) -> str | None:
    """Return the error of the body; None when it is a valid request."""
    try:
        parse_request(body)
    except (MalformedRequest, InvalidInput) as error:
        return str(error)
    return None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(body: bytes) -> None:
    assert refusal(body) != ""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=4),
    )
)
def test_any_json_as_data_is_a_tensor_or_an_error_with_its_name(data: Any) -> None:
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": data}]}
    ).encode()
    text = refusal(body)
    assert text is None or text.startswith(("x: ", "inputs.0.", "the body is not JSON"))


@pytest.mark.parametrize("datatype", [d for d in Datatype if d.bounds])
def test_a_number_outside_its_datatype_is_rejected(datatype: Datatype) -> None:
    assert datatype.bounds
    low, high = datatype.bounds
    for value in (low - 1 - abs(low), high + 1 + high):
        with pytest.raises(InvalidInput, match=r"^x: "):
            check_values("x", datatype, [value])


@pytest.mark.parametrize("datatype", Datatype)
def test_the_types_of_numpy_and_onnx_have_the_size_of_the_datatype(datatype: Datatype) -> None:
    dtype = np.dtype(datatype.dtype)
    assert onnx.helper.np_dtype_to_tensor_dtype(dtype) == onnx.TensorProto.DataType.Value(
        datatype.onnx
    )
    assert datatype is Datatype.BYTES or (dtype.itemsize, dtype.byteorder in "<=|") == (
        datatype.size,
        True,
    )


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP32", "1"),
        ("FP32", True),
        ("FP32", [1.0]),
        ("INT8", 1.5),
        ("INT8", True),
        ("INT8", None),
        ("BOOL", 1),
        ("BYTES", 1),
    ],
)
def test_a_value_of_another_type_is_rejected(datatype: str, value: Any) -> None:
    with pytest.raises(ValueError, match="x: value 0"):
        Tensor.model_validate({"name": "x", "shape": [1], "datatype": datatype, "data": [value]})


@pytest.mark.parametrize(
    ("datatype", "size"),
    [("BOOL", 1), ("UINT8", 1), ("INT64", 8), ("FP16", 2), ("FP64", 8), ("BYTES", None)],
)
def test_a_datatype_has_a_size(datatype: str, size: int | None) -> None:
    assert Datatype(datatype).size == size


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "the body is not JSON: it is empty; send a JSON object"),
        (b" \n", "the body is not JSON: it is empty; send a JSON object"),
        (b"[" * 10_000, "recursion limit"),
        (b'{"inputs": []}', "inputs"),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP99", "data": [1]}]}',
            "inputs.0.datatype",
        ),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN, NaN]}]}',
            "x: ",
        ),
        (
            b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [Infinity]}]}',
            "x: ",
        ),
        (
            b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": [1]}]}',
            "negative",
        ),
        (
            (
                b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1], '
                b'"datta": 1}]}'
            ),
            "datta",
        ),
    ],
)
def test_an_invalid_request_is_rejected_with_its_problem(body: bytes, expected: str) -> None:
    with pytest.raises((MalformedRequest, InvalidInput), match=expected):
        parse_request(body)


@given(
    st.sampled_from([b"NaN", b"Infinity", b"-Infinity"]),
    st.sampled_from([b"[%s]", b'{"inputs": [{"data": [1, %s]}]}']),
)
def test_a_strict_parser_reports_nan_and_infinity(word: bytes, body: bytes) -> None:
    def strict(given: bytes) -> Any:
        return from_json(given, allow_inf_nan=False)

    with pytest.raises(
        MalformedRequest,
        match="NaN or Infinity, which JSON does not have; send null for a missing value",
    ):
        parse_request(body % word, loads=strict)
    with pytest.raises(MalformedRequest, match=r"the body is not JSON: (?!it has NaN)"):
        parse_request(body % word + b"]", loads=strict)


WIDE = st.integers(-(10**320), 10**320) | st.integers(-(2**66), 2**66)


@given(WIDE, st.sampled_from([d for d in Datatype if d.bounds]))
def test_a_whole_number_of_any_size_is_a_value_or_rejected_for_its_size(
    number: int, datatype: Datatype
) -> None:
    assert datatype.bounds
    low, high = datatype.bounds
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1], "datatype": datatype, "data": [number]}]}
    ).encode()
    if low <= number <= high:
        assert parse_request(body).inputs[0].data == [number]
    else:
        with pytest.raises(
            InvalidInput, match=f"^x: value 0 is .*, which does not fit {datatype} "
        ):
            parse_request(body)


@given(st.integers(2**64, 2**1000) | st.integers(-(2**1000), -(2**64)))
def test_a_whole_number_parsed_as_a_float_is_rejected_for_its_size_not_its_type(
    number: int,
) -> None:
    with pytest.raises(InvalidInput, match=r"^x: value 0 is .*e\+\d+, which does not fit INT64 "):
        check_values("x", Datatype.INT64, [float(number)])


def request_with(where: str, **parameters: Any) -> bytes:
    """Return a request with these parameters at this place."""
    tensor: dict[str, Any] = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    request: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "y"}]}
    at = {"parameters": request, "x": tensor, "y": request["outputs"][0]}[where]
    at["parameters"] = parameters
    return json.dumps(request).encode()


@given(
    st.sampled_from(["parameters", "x", "y"]),
    st.sampled_from(sorted(UNSUPPORTED)),
    st.sampled_from([1, True, "a", [0], {}]),
)
def test_an_unsupported_parameter_is_rejected_with_its_remedy(
    where: str, name: str, value: Any
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_request(request_with(where, **{name: value}))
    assert str(refused.value) == f"{where}: parameter {name} is not supported: {UNSUPPORTED[name]}"


@given(
    st.sampled_from(["parameters", "x", "y"]),
    st.text().filter(lambda text: text not in CONTENT_TYPES) | st.lists(st.integers()),
)
def test_a_content_type_that_encodes_the_values_is_rejected(where: str, kind: Any) -> None:
    with pytest.raises(
        InvalidInput,
        match=rf"^{where}: content_type .* is not supported: send the values themselves",
    ):
        parse_request(request_with(where, content_type=kind))


@pytest.mark.parametrize("where", ["parameters", "x", "y"])
@pytest.mark.parametrize(
    "parameters",
    [{"content_type": kind} for kind in sorted(CONTENT_TYPES)]
    + [
        {"unheard_of": 1},
        {"classification": 0},
        {"binary_data": False},
        {"sequence_id": ""},
        {"timeout": None},
    ],
)
def test_supported_parameters_are_accepted(where: str, parameters: dict[str, Any]) -> None:
    assert parse_request(request_with(where, **parameters)).inputs[0].data == ["a"]


def test_an_input_in_shared_memory_is_rejected_for_that_and_not_for_its_missing_data() -> None:
    tensor = {
        "name": "x",
        "shape": [1],
        "datatype": "FP32",
        "parameters": {"shared_memory_region": "r"},
    }
    with pytest.raises(
        InvalidInput,
        match=r"^x: parameter shared_memory_region is not supported: send the values as data",
    ):
        parse_request(json.dumps({"inputs": [tensor]}).encode())


def test_parameters_of_a_response_are_not_checked() -> None:
    output = {
        "name": "y",
        "shape": [1],
        "datatype": "BYTES",
        "data": ["a"],
        "parameters": {"content_type": "hg_json"},
    }
    answer = InferenceResponse.model_validate_json(
        json.dumps({"model_name": "m", "outputs": [output]})
    )
    assert answer.outputs[0].parameters == {"content_type": "hg_json"}


def test_a_duplicate_input_is_rejected() -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    with pytest.raises(InvalidInput, match="x: given more than once"):
        parse_request(json.dumps({"inputs": [tensor, tensor]}).encode())


def test_a_request_preserves_unknown_parameters() -> None:
    tensor = {
        "name": "x",
        "shape": [1],
        "datatype": "FP32",
        "data": [1.0],
        "parameters": {"content_type": "np"},
    }
    request = InferenceRequest.model_validate(
        {"id": "7", "inputs": [tensor], "outputs": [{"name": "y"}]}
    )
    assert request.id == "7"
    assert request.inputs[0].parameters == {"content_type": "np"}
    assert request.outputs
    assert request.outputs[0].name == "y"


def test_a_huge_integer_beside_a_missing_value_is_rejected_without_a_crash() -> None:
    with pytest.raises(InvalidInput, match=r"x: value \d is 1000.*, which does not fit FP64"):
        check_values("x", Datatype.FP64, [math.nan, None, 10**400], missing=True)


def test_the_largest_single_precision_number_fits_as_it_is_written() -> None:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [3.4028235e38, -3.4028235e38]}
    assert parse_request(json.dumps({"inputs": [tensor]}).encode()).inputs[0].data == tensor["data"]
