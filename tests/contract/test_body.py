"""Request bodies use no more memory than their limits allow, whatever they contain."""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, ValidationError
from slipway_contract.body import CONTAINERS, ENVELOPE, CallerBody, check_size, read_json
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from slipway_contract.v2 import InferenceRequest, parse_request

MEGABYTE = 2**20


def repeated(item: bytes) -> bytes:
    """Return a V2 request of 1 MiB whose inputs are repetitions of this item."""
    return b'{"inputs":[' + (item + b",") * (MEGABYTE // (len(item) + 1)) + item + b"]}"


WORST = {
    "wrong items": repeated(b"0"),
    "empty objects": repeated(b"{}"),
    "empty lists": repeated(b"[]"),
    "objects of one field": repeated(b'{"a":0}'),
    "lists in lists": repeated(b"[" * 100 + b"]" * 100),
    "objects in objects": repeated(b'{"a":' * 100 + b"0" + b"}" * 100),
    "texts": repeated(b'"a"'),
    "unknown fields": b'{"inputs":[{'
    + b",".join(b'"%x":0' % number for number in range(110_000))
    + b"}]}",
    "unknown fields outside": b"{"
    + b",".join(b'"%x":0' % number for number in range(110_000))
    + b"}",
    "wrong sizes of a shape": b'{"inputs":[{"name":"x","datatype":"FP32","data":[],"shape":['
    + b'"a",' * 250_000
    + b"0]}]}",
    "wrong values": b'{"inputs":[{"name":"x","datatype":"FP32","shape":[250001],"data":['
    + b'"a",' * 250_000
    + b"0]}]}",
    "wrong outputs": b'{"inputs":[],"outputs":[' + b"0," * 500_000 + b"0]}",
    "a long number": b'{"inputs":[' + b"9" * MEGABYTE + b"]}",
}


@pytest.mark.parametrize("body", WORST.values(), ids=WORST)
def test_the_worst_megabyte_is_rejected_with_less_than_32_more(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((InvalidInput, MalformedRequest, TooManyValues)) as refused:
            parse_request(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * MEGABYTE
    assert len(str(refused.value)) < 1000


def test_a_request_with_more_values_than_the_limit_is_rejected_with_the_remedy() -> None:
    def request(count: int) -> bytes:
        return json.dumps(
            {"inputs": [{"name": "x", "shape": [count], "datatype": "FP32", "data": [0] * count}]}
        ).encode()

    assert parse_request(request(1000), 1000).inputs[0].shape == [1000]
    with pytest.raises(
        TooManyValues, match=r"rows × columns may be 1000 .* POST /v1/models/\{model\}/batches"
    ):
        parse_request(request(1001), 1000)


@pytest.mark.parametrize(
    "text",
    [
        "," * 2 * ENVELOPE,
        "[" * 2 * CONTAINERS,
        '\\"[,' * CONTAINERS,
        "\\\\",
        "{" * 2 * CONTAINERS + "\\",
    ],
)
def test_commas_and_brackets_in_a_string_are_not_counted(text: str) -> None:
    body = json.dumps([text, 1]).encode()
    assert read_json(body, 10) == [text, 1]


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ),
    st.integers(1, 9),
)
def test_any_json_within_the_limits_is_read(value: Any, limit: int) -> None:
    assert read_json(json.dumps(value).encode(), limit) == value


@given(st.binary(max_size=100))
def test_any_bytes_are_counted_without_an_error(body: bytes) -> None:
    check_size(body * 1000, 10**9)


class Body(CallerBody):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    some_name: int = Field(default=1, alias="someName")
    other: int = 2


@pytest.mark.parametrize("given", [{"someName": 3}, {"some_name": 3}, {"someName": 3, "other": 2}])
def test_a_body_takes_its_fields_by_name_and_by_alias(given: dict[str, int]) -> None:
    assert Body.model_validate(given).some_name == 3


def test_of_many_unknown_fields_the_first_is_reported_with_the_errors_of_known_ones() -> None:
    with pytest.raises(ValidationError) as refused:
        Body.model_validate({"x1": 0, "other": "a", **{f"y{number}": 0 for number in range(1000)}})
    assert [each["loc"] for each in refused.value.errors()] == [("other",), ("x1",)]


def best(work: Callable[[], object]) -> float:
    def seconds() -> float:
        start = time.thread_time()
        work()
        return time.thread_time() - start

    return min(seconds() for _ in range(3))


def test_duplicate_names_are_found_in_linear_time() -> None:
    def request(count: int) -> dict[str, Any]:
        tensor = {"shape": [0], "datatype": "FP32", "data": []}
        return {"inputs": [{"name": str(number), **tensor} for number in range(count)]}

    small, large = request(500), request(8000)
    # Sixteen times the inputs: 16 times the time, where each is compared with each 256 times.
    assert best(lambda: InferenceRequest.model_validate(large)) < 80 * best(
        lambda: InferenceRequest.model_validate(small)
    )
