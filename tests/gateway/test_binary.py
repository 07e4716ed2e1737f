"""The binary tensor data extension of the gateway: single tensors, and the event log."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slipway_contract.errors import InvalidInput, MalformedRequest, TooManyValues
from slipway_contract.v2 import Datatype
from slipway_gateway.errors import TooLarge
from slipway_gateway.inference.binary import Wanted, read_request, write_answer

from tests.gateway.environment import Client
from tests.gateway.predictor import ROW
from tests.support.waiting import SECONDS

LIMIT = 2**20
INFER = "/v2/models/heart/infer"
TRITON = Path("tests/e2e/clients/tritonclient_binary.py")
PYTHON = Path(".venv-serving/bin/python")
"""MLServer depends on tritonclient."""


def packed(content: dict[str, Any], *raw: bytes) -> tuple[bytes, bytes]:
    """Return a body with binary tensors and the length of its JSON."""
    head = orjson.dumps(content)
    return b"".join([head, *raw]), str(len(head)).encode()


def one(
    datatype: str, raw: bytes, shape: list[int] | None = None, **changed: Any
) -> tuple[bytes, bytes]:
    """Return a request of one binary tensor ``x``."""
    parameters = {"binary_data_size": len(raw)}
    tensor = {
        "name": "x",
        "shape": shape or [2],
        "datatype": datatype,
        "parameters": parameters,
        **changed,
    }
    return packed({"inputs": [tensor]}, raw)


def heart(**changed: Any) -> dict[str, Any]:
    names = [
        {"name": name, "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}
        for name in ROW
    ]
    return {"id": "mine", "inputs": names, **changed}


def ask(client: Client, content: dict[str, Any]) -> httpx.Response:
    body, length = packed(content, *(np.float32(value).tobytes() for value in ROW.values()))
    return client.post(
        INFER,
        body,
        content_type="application/octet-stream",
        inference_header_content_length=length.decode(),
    )


def test_the_client_of_nvidia_works_unchanged(client: Client) -> None:
    token = client.environment.issuer.token()
    done = subprocess.run(
        [PYTHON, TRITON, client.url, token, json.dumps(ROW)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "heart label 1"


def test_a_binary_request_is_served_and_logged_like_its_json(
    client: Client,
) -> None:
    answer = ask(client, heart(parameters={"binary_data_output": True}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    head = orjson.loads(answer.content[:length])
    assert (head["model_name"], head["id"]) == ("heart", "mine")
    assert [output["parameters"] for output in head["outputs"]] == [
        {"binary_data_size": 8},
        {"binary_data_size": 4},
    ]
    assert np.frombuffer(answer.content[length : length + 8], "<i8").tolist() == [1]
    assert np.frombuffer(answer.content[length + 8 :], "<f4").tolist() == [
        np.float32(ROW["age"] / 130)
    ]
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert {tensor["name"]: tensor["data"] for tensor in receipt["request"]["inputs"]} == {
        k: [v] for k, v in ROW.items()
    }
    assert receipt["response"]["outputs"][0]["data"] == [1]


def test_each_output_may_be_binary(client: Client) -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probability"}]
    answer = ask(client, heart(parameters={"binary_data_output": True}, outputs=wanted))
    head = orjson.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    assert head["outputs"][0]["data"] == [1]
    assert "data" not in head["outputs"][1]


def test_a_binary_request_without_output_parameters_gets_json(client: Client) -> None:
    answer = ask(client, heart())
    assert answer.json()["outputs"][0]["data"] == [1]
    assert "inference-header-content-length" not in answer.headers


def test_a_json_request_may_select_binary_outputs(client: Client) -> None:
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP32", "data": [value]}
        for name, value in ROW.items()
    ]
    answer = client.post(INFER, {"inputs": inputs, "parameters": {"binary_data_output": True}})
    assert "inference-header-content-length" in answer.headers


def test_a_large_binary_request_is_parsed_in_a_thread(client: Client) -> None:
    rows = 50_000
    names = [
        {
            "name": n,
            "shape": [rows],
            "datatype": "FP32",
            "parameters": {"binary_data_size": 4 * rows},
        }
        for n in ROW
    ]
    body, length = packed(
        {"inputs": names, "parameters": {"binary_data_output": True}},
        *(np.full(rows, v, "<f4").tobytes() for v in ROW.values()),
    )
    answer = client.post(INFER, body, inference_header_content_length=length.decode())
    assert answer.status_code == 200
    start = int(answer.headers["inference-header-content-length"])
    assert np.frombuffer(answer.content[start : start + 8 * rows], "<i8").tolist() == [1] * rows


def test_an_error_of_the_predictor_remains_json(client: Client) -> None:
    body, length = packed(heart(), *(np.float32(value).tobytes() for value in (-5, 233, 6)))
    answer = client.post(INFER, body, inference_header_content_length=length.decode())
    assert (answer.status_code, answer.json()) == (
        422,
        {"error": "age: -5 is below the minimum 0 a"},
    )


def extremes(datatype: Datatype) -> list[Any]:
    kind = datatype.dtype
    if datatype is Datatype.BOOL:
        return [False, True]
    limits = np.finfo(kind) if datatype.is_float else np.iinfo(kind)
    return [limits.min, limits.max]


@pytest.mark.parametrize("datatype", [each for each in Datatype if each.size])
def test_every_datatype_survives_a_round_trip(datatype: Datatype) -> None:
    raw = np.array(extremes(datatype), datatype.dtype).tobytes()
    text, _ = read_request(*one(datatype, raw), LIMIT)
    (tensor,) = orjson.loads(text)["inputs"]
    assert written({key: tensor[key] for key in ("name", "shape", "datatype", "data")}) == raw


def written(output: dict[str, Any]) -> bytes:
    """Return the output as sent to a caller that selected binary outputs."""
    wanted = Wanted(others=True)
    answer, at = write_answer(orjson.dumps({"model_name": "m", "outputs": [output]}), wanted)
    return answer[at:]


def test_elements_of_bytes_follow_their_lengths() -> None:
    raw = b"\x02\0\0\0\xc3\xa9" + b"\0\0\0\0"
    text, _ = read_request(*one("BYTES", raw), LIMIT)
    assert orjson.loads(text)["inputs"][0]["data"] == ["é", ""]
    assert written({"name": "x", "shape": [2], "datatype": "BYTES", "data": ["é", ""]}) == raw


def test_missing_values_are_nan_in_binary_and_null_in_json() -> None:
    text, _ = read_request(*one("FP32", np.array([np.nan, 1], "<f4").tobytes()), LIMIT)
    assert orjson.loads(text)["inputs"][0]["data"] == [None, 1.0]
    raw = written({"name": "x", "shape": [2], "datatype": "FP32", "data": [None, 1.0]})
    assert np.isnan(np.frombuffer(raw, "<f4")).tolist() == [True, False]


def test_single_precision_is_written_in_its_shortest_form() -> None:
    text, _ = read_request(*one("FP32", np.array([0.1, 6.2], "<f4").tobytes()), LIMIT)
    assert b'"data":[0.1,6.2]' in text


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (
            one("FP32", b"\0" * 7),
            InvalidInput,
            "x: binary_data_size is 7; FP32 of shape [2] needs 8",
        ),
        (one("FP32", np.array([np.inf, 0], "<f4").tobytes()), InvalidInput, "x: infinity"),
        (one("BYTES", b"\xff\0\0\0x"), InvalidInput, "x: element 0 of BYTES is longer"),
        (one("BYTES", b"\x01\0"), InvalidInput, "x: element 0 of BYTES is longer"),
        (one("BYTES", b"\x01\0\0\0\xff", [1]), InvalidInput, "x: element 0 of BYTES is not UTF-8"),
        (one("BYTES", b"\x01\0\0\0x"), InvalidInput, "x: data has 1 values"),
        (one("BF16", b"\0\0\0\0"), MalformedRequest, "datatype"),
        (one("FP32", b"\0" * 8, [-2]), MalformedRequest, "shape"),
        (
            one("FP32", b"\0" * 8, data=[1, 2]),
            MalformedRequest,
            "x has data in the JSON and behind it",
        ),
        (
            one("FP32", b"", parameters={"binary_data_size": -1}),
            MalformedRequest,
            "binary_data_size of x",
        ),
        (
            one("FP32", b"\0" * 8, parameters={"binary_data_size": 9}),
            MalformedRequest,
            "binary_data_size of x",
        ),
        (
            one("FP32", b"\0" * 9, parameters={"binary_data_size": 8}),
            MalformedRequest,
            "1 bytes follow the JSON",
        ),
        (
            one("FP32", b"\0" * 8, parameters={"binary_data_size": True}),
            MalformedRequest,
            "binary_data_size of x",
        ),
        (
            packed({"inputs": [], "parameters": {"binary_data_output": "yes"}}),
            MalformedRequest,
            "must be true or false",
        ),
        ((b"{}", b"3"), MalformedRequest, "Inference-Header-Content-Length"),
        ((b"{}", b"-1"), MalformedRequest, "Inference-Header-Content-Length"),
        ((b"{}", b"9" * 5000), MalformedRequest, "Inference-Header-Content-Length"),
        ((b"{}", b"0"), MalformedRequest, "JSON"),
        ((b"[1]", b"3"), MalformedRequest, ""),
        (
            (
                (
                    b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": '
                    b"[Infinity]}]}"
                ),
                None,
            ),
            MalformedRequest,
            "send null",
        ),
        ((b"", None), MalformedRequest, "it is empty; send a JSON object"),
    ],
)
def test_invalid_binary_data_is_rejected(
    body: tuple[bytes, bytes | None], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        read_request(*body, LIMIT)
    assert words in str(raised.value)


@given(st.integers(-(10**300), 10**300) | st.integers(-(2**66), 2**66))
def test_an_integer_of_any_size_in_the_json_is_forwarded(number: int) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [number]}
    text, _ = read_request(json.dumps({"inputs": [tensor]}).encode(), None, LIMIT)
    (passed,) = orjson.loads(text)["inputs"][0]["data"]
    assert passed == (number if -(2**63) <= number < 2**64 else float(number))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parameters": {"sequence_id": 7}}, "parameters: parameter sequence_id is not supported"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 3}}]},
            "label: parameter classification is not",
        ),
    ],
)
def test_parameters_of_other_extensions_are_rejected_by_name(
    client: Client, changed: dict[str, Any], message: str
) -> None:
    answer = ask(client, heart(**changed))
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(message)


def test_binary_outputs_for_a_large_json_body_are_sent_or_rejected(
    client: Client,
) -> None:
    tensors = [
        {"name": n, "shape": [9000], "datatype": "FP32", "data": [v] * 9000} for n, v in ROW.items()
    ]
    answer = client.post(INFER, {"inputs": tensors, "parameters": {"binary_data_output": True}})
    # A body in one piece is read; a body in several pieces is streamed to the
    # predictor.
    if answer.status_code == 200:
        assert "inference-header-content-length" in answer.headers
    else:
        assert answer.status_code == 422
        assert (
            "binary_data_output is not supported: outputs of this request are JSON; send its inputs"
            in answer.json()["error"]
        )


def test_a_body_that_exceeds_the_limit_as_json_is_too_large() -> None:
    with pytest.raises(TooLarge):
        read_request(*one("UINT8", b"\xff" * 400_000, [400_000]), LIMIT, 10**6)
    with pytest.raises(TooLarge):
        read_request(*one("UINT8", b"\0" * 600_000, [600_000]), LIMIT, 10**6)


def test_a_wrong_json_length_is_a_client_error(client: Client) -> None:
    answer = client.post(INFER, b"{}", inference_header_content_length="many")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize(
    ("datatype", "piece"), [("UINT8", b"\0" * 600_000), ("BYTES", b"\0" * 4 * 600_000)]
)
def test_binary_tensors_with_too_many_values_are_rejected_before_they_are_read(
    datatype: str, piece: bytes
) -> None:
    with pytest.raises(TooManyValues, match="524288"):
        read_request(*one(datatype, piece, [600_000]), LIMIT)


def test_texts_beyond_the_shape_are_rejected_at_the_first_one() -> None:
    with pytest.raises(InvalidInput, match="x: data has more values than the 1 of its shape"):
        read_request(*one("BYTES", b"\0" * 4 * 100_000, [1]), LIMIT)
