"""The V2 protocol in-process: the real application, registry and models, without a socket."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from mlserver.registry import MultiModelRegistry
from prometheus_client import generate_latest
from slipway_contract.log import JsonLines
from slipway_contract.registry import ArtifactFormat
from slipway_contract.signature import Column
from slipway_contract.v2 import ModelMetadata, TensorMetadata
from slipway_serving.application import create_application, mlserver_settings
from slipway_serving.errors import Refused
from slipway_serving.middleware import RequestMiddleware
from slipway_serving.model import INLINE_VALUES, SlipwayModel
from slipway_serving.server import model_settings

from tests.serving.artifacts import (
    PROVENANCE,
    Fitted,
    text_request,
    write_artifact,
    write_graph,
    write_model_settings,
    write_rules,
)
from tests.support.waiting import SECONDS

LIMIT = 2**20


@pytest.fixture(scope="module")
def application(
    tmp_path_factory: pytest.TempPathFactory, patients: Fitted, digits: Fitted
) -> FastAPI:
    """Return the application with models of all formats.

    Patients are served as ONNX, skops and joblib, digits as ONNX, sentiment as rules. There is one
    for all tests, because MLServer's metrics are registered process-wide.
    """
    registry = MultiModelRegistry(model_initialiser=SlipwayModel)
    fitted_formats = [format for format in ArtifactFormat if format is not ArtifactFormat.RULES]
    models = [(patients, format.value, format) for format in fitted_formats] + [
        (digits, "digits", ArtifactFormat.ONNX)
    ]
    for fitted, name, format in models:
        folder = tmp_path_factory.mktemp("models") / name
        write_artifact(folder, fitted, format)
        write_model_settings(folder, format)
        asyncio.run(registry.load(model_settings(folder)))
    logarithm = tmp_path_factory.mktemp("models") / "logarithm"
    write_graph(logarithm, "Log")
    write_model_settings(logarithm, ArtifactFormat.ONNX)
    asyncio.run(registry.load(model_settings(logarithm)))
    rules = tmp_path_factory.mktemp("models") / "sentiment"
    write_rules(rules)
    write_model_settings(rules, ArtifactFormat.RULES)
    asyncio.run(registry.load(model_settings(rules)))
    return create_application(mlserver_settings(), registry)


class InProcess:
    """A client of the application without a socket."""

    def __init__(self, middleware: RequestMiddleware) -> None:
        self._transport = httpx.ASGITransport(middleware, raise_app_exceptions=False)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.request("POST", path, **body)

    def request(self, method: str, path: str, **body: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url="http://predictor"
            ) as client:
                return await client.request(method, path, **body)

        return asyncio.run(send())


@pytest.fixture
def middleware(application: FastAPI) -> RequestMiddleware:
    return RequestMiddleware(application, LIMIT)


@pytest.fixture
def client(middleware: RequestMiddleware) -> InProcess:
    return InProcess(middleware)


def outputs(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in response.json()["outputs"]
    }


def refusal(response: Any, status: int = 422) -> str:
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    return str(response.json()["error"])


@pytest.mark.parametrize("model", ["onnx", "skops", "joblib"])
def test_every_format_has_the_predictions_of_the_estimator(
    client: InProcess, patients: Fitted, model: str
) -> None:
    given = outputs(client.post(f"/v2/models/{model}/infer", json=patients.request()))
    expected = patients.estimator.predict_proba(patients.rows)
    np.testing.assert_allclose(given["probability"], expected[:, 1], atol=1e-5)
    np.testing.assert_array_equal(given["label"], patients.estimator.predict(patients.rows))


def test_vectors_in_and_out_keep_their_shape(client: InProcess, digits: Fitted) -> None:
    given = outputs(client.post("/v2/models/digits/infer", json=digits.request()))
    assert given["probabilities"].shape == (len(digits.rows), 10)
    np.testing.assert_allclose(
        given["probabilities"], digits.estimator.predict_proba(digits.rows), atol=1e-5
    )


def test_nested_data_equals_flat_data(client: InProcess, digits: Fitted) -> None:
    body = digits.request()
    body["inputs"][0]["data"] = digits.rows.tolist()
    nested = client.post("/v2/models/digits/infer", json={**body, "id": "same"}).json()
    assert (
        nested
        == client.post("/v2/models/digits/infer", json={**digits.request(), "id": "same"}).json()
    )


def test_a_scalar_column_may_come_as_a_column_vector(client: InProcess, patients: Fitted) -> None:
    body = patients.request()
    for tensor in body["inputs"]:
        tensor["shape"] = [*tensor["shape"], 1]
    given = outputs(client.post("/v2/models/onnx/infer", json=body))
    np.testing.assert_allclose(
        given["probability"], patients.estimator.predict_proba(patients.rows)[:, 1], atol=1e-5
    )


def test_many_rows_are_predicted_in_a_thread_with_the_same_outputs(
    client: InProcess, patients: Fitted
) -> None:
    rows = np.tile(patients.rows, (INLINE_VALUES // patients.rows.size + 1, 1))
    given = outputs(client.post("/v2/models/onnx/infer", json=patients.request(rows)))
    np.testing.assert_allclose(
        given["probability"], patients.estimator.predict_proba(rows)[:, 1], atol=1e-5
    )


def test_only_the_requested_outputs_are_returned_in_their_order(
    client: InProcess, patients: Fitted
) -> None:
    body = {**patients.request(), "outputs": [{"name": "probability"}, {"name": "label"}]}
    assert list(outputs(client.post("/v2/models/onnx/infer", json=body))) == [
        "probability",
        "label",
    ]
    body["outputs"] = [{"name": "label"}]
    (output,) = client.post("/v2/models/onnx/infer", json=body).json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == (
        "label",
        "INT64",
        [len(patients.rows)],
    )


def test_an_unknown_output_is_named(client: InProcess, patients: Fitted) -> None:
    reason = refusal(
        client.post(
            "/v2/models/onnx/infer", json={**patients.request(), "outputs": [{"name": "price"}]}
        )
    )
    assert reason == "price: is not an output of this model; it gives label, probability"


def test_the_id_is_returned_unchanged(client: InProcess, patients: Fitted) -> None:
    for id in ("abc", "ü\r\nSet-Cookie: a=b"):
        response = client.post("/v2/models/onnx/infer", json={**patients.request(), "id": id})
        assert response.json()["id"] == id
        assert "set-cookie" not in response.headers
    assert response.json()["model_name"] == "onnx"
    assert response.json()["model_version"] == "3"


def with_input(body: dict[str, Any], index: int, **changes: Any) -> dict[str, Any]:
    body["inputs"][index] = {**body["inputs"][index], **changes}
    return body


@pytest.mark.parametrize(
    ("index", "changes", "reason"),
    [
        (0, {"data": [-5.0]}, "age: -5 is below the minimum 0 a"),
        (0, {"data": [121]}, "age: 121 is above the maximum 120 a"),
        (0, {"data": ["63"]}, "age: value 0 is '63' (str); FP32 is expected"),
        (0, {"data": [True]}, "age: value 0 is True (bool); FP32 is expected"),
        (0, {"data": [None]}, "age: value 0 is null (missing); FP32 is expected"),
        (0, {"data": [1e39]}, "age: value 0 is 1e+39, which does not fit FP32"),
        (0, {"datatype": "INT64"}, "age: datatype INT64 does not fit; expected FP32"),
        (0, {"name": "years"}, "years: is not an input of this model; it takes age, thal, chol"),
        (0, {"name": "thal"}, "thal: given more than once"),
        (0, {"shape": [2]}, "age: data has 1 values; shape [2] needs 2"),
        (0, {"shape": [1, 2], "data": [1, 2]}, "age: shape [1, 2] does not fit; expected [rows]"),
        (0, {"shape": [-1]}, "age: shape [-1] has a negative dimension"),
        (0, {"shape": []}, "age: shape [] does not fit; expected [rows]"),
        (0, {"shape": [2], "data": [50, 60]}, "thal: has 1 rows, but age has 2"),
        (1, {"data": [9]}, "thal: 9 is not one of the codes 3, 6, 7 or null"),
        (1, {"data": [[[[3]]], 3], "shape": [2]}, "thal: "),
    ],
)
def test_a_wrong_value_is_rejected_with_422_and_the_name_of_the_input(
    client: InProcess, patients: Fitted, index: int, changes: dict[str, Any], reason: str
) -> None:
    body = with_input(patients.request(np.array([[63, 3, 200]], np.float32)), index, **changes)
    assert refusal(client.post("/v2/models/onnx/infer", json=body)).startswith(reason)


def test_63_pixels_are_too_few(client: InProcess) -> None:
    body = {
        "inputs": [{"name": "pixels", "shape": [1, 63], "datatype": "FP32", "data": [0.0] * 63}]
    }
    assert (
        refusal(client.post("/v2/models/digits/infer", json=body))
        == "pixels: shape [1, 63] does not fit; expected [rows, 64]"
    )
    body["inputs"][0]["shape"] = [1, 64]
    assert (
        refusal(client.post("/v2/models/digits/infer", json=body))
        == "pixels: data has 63 values; shape [1, 64] needs 64"
    )


def test_a_missing_input_is_named(client: InProcess, patients: Fitted) -> None:
    body = patients.request()
    del body["inputs"][2]
    assert (
        refusal(client.post("/v2/models/onnx/infer", json=body))
        == "chol: is missing from the inputs"
    )


def test_no_rows_are_refused(client: InProcess, patients: Fitted) -> None:
    assert refusal(
        client.post("/v2/models/onnx/infer", json=patients.request(patients.rows[:0]))
    ).startswith("age: has no rows")


def test_null_is_a_missing_value_where_the_signature_allows_it(
    client: InProcess, patients: Fitted
) -> None:
    row = np.array([[63, np.nan, np.nan]], np.float32)
    given = outputs(client.post("/v2/models/onnx/infer", json=patients.request(row)))
    np.testing.assert_allclose(
        given["probability"], patients.estimator.predict_proba(row)[:, 1], atol=1e-5
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"inputs": 5}',
        b"{}",
        b'{"inputs": [{"name": "age"}]}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FLOAT", "data": [1]}]}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": 1}]}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": {"0": 1}}]}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [NaN]}]}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [Infinity]}]}',
        b'{"inputs": [], "id": {"a": 1}}',
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": '
        + b"[" * 10_000
        + b"]" * 10_000
        + b"}]}",
    ],
)
def test_an_invalid_v2_request_is_rejected_with_400(client: InProcess, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert refusal(client.post("/v2/models/onnx/infer", content=body, headers=headers), 400)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body is not JSON: it is empty; send a JSON object"),
        (
            b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [NaN]}]}',
            "send null for a missing value",
        ),
        (
            b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [1e400]}]}',
            "number is infinity",
        ),
    ],
)
def test_a_body_that_is_almost_json_is_rejected_with_the_remedy(
    client: InProcess, body: bytes, reason: str
) -> None:
    assert reason in refusal(
        client.post(
            "/v2/models/onnx/infer", content=body, headers={"content-type": "application/json"}
        ),
        400,
    )


def test_an_infinite_output_is_refused_by_name_and_other_rows_are_answered(
    client: InProcess,
) -> None:
    def logarithm(*values: float) -> httpx.Response:
        tensor = {"name": "x", "shape": [len(values)], "datatype": "FP32", "data": list(values)}
        return client.post("/v2/models/logarithm/infer", json={"inputs": [tensor]})

    reason = refusal(logarithm(1.0, 0.0))
    assert reason.startswith(
        "output 'y': value 1 is -inf for this input, and JSON has no infinity; leave the row out"
    )
    response = logarithm(-1.0, 1.0)
    assert response.status_code == 200
    assert outputs(response)["y"].tolist() == [None, 0.0]


def test_a_text_in_another_encoding_is_refused(client: InProcess) -> None:
    body = text_request("YSBkYXk=")
    body["inputs"][0]["parameters"] = {"content_type": "base64"}
    assert refusal(client.post("/v2/models/sentiment/infer", json=body)).startswith(
        "text: content_type 'base64' is not supported"
    )


@pytest.mark.parametrize("depth", [50, 500, 900, 1000, 1015])
def test_deeply_nested_json_is_rejected_with_422(
    client: InProcess, patients: Fitted, depth: int
) -> None:
    body = json.dumps(patients.request(np.array([[63, 3, 200]], np.float32)))
    deep = body.replace("[63.0]", "[" * depth + "63.0" + "]" * depth)
    response = client.post(
        "/v2/models/onnx/infer", content=deep.encode(), headers={"content-type": "application/json"}
    )
    assert refusal(response).startswith("age: value 0 is [[[")


def test_a_body_over_the_limit_is_rejected_with_413(client: InProcess) -> None:
    headers = {"content-type": "application/json"}
    large = b" " * (LIMIT + 1)
    assert refusal(
        client.post("/v2/models/onnx/infer", content=large, headers=headers), 413
    ).startswith("the body is larger")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (LIMIT // 4)

    response = client.post("/v2/models/onnx/infer", content=chunks(), headers=headers)
    assert refusal(response, 413).startswith("the body is larger")


def test_bodies_beyond_the_common_budget_are_rejected_with_503(application: FastAPI) -> None:
    middleware, path = (
        RequestMiddleware(application, LIMIT, body_budget=1000),
        "/v2/models/onnx/infer",
    )
    headers = {"content-type": "application/json"}

    async def send() -> tuple[httpx.Response, httpx.Response]:
        started, end = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield b" " * 600
            started.set()  # the next piece is requested: this one is in memory
            await end.wait()

        transport = httpx.ASGITransport(middleware, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://predictor", headers=headers
        ) as client:
            first = asyncio.create_task(client.post(path, content=slow()))
            await asyncio.wait_for(started.wait(), SECONDS)
            refused = await client.post(path, content=b" " * 600)
            end.set()
            await first
            return refused, await client.post(path, content=b" " * 600)

    refused, after = asyncio.run(send())
    assert refusal(refused, 503).startswith("the memory for request bodies")
    assert refused.headers["retry-after"] == "1"
    assert after.status_code == 400


def test_a_body_with_too_many_values_is_rejected_with_413(client: InProcess) -> None:
    body = (
        b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": ['
        + b"[]," * (LIMIT // 4)
        + b"1]}]}"
    )
    response = client.post(
        "/v2/models/onnx/infer", content=body, headers={"content-type": "application/json"}
    )
    assert refusal(response, 413).startswith("the request has too many values")


def test_other_media_types_and_encodings_are_rejected_with_415(client: InProcess) -> None:
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ):
        refusal(client.post("/v2/models/onnx/infer", content=b"{}", headers=headers), 415)


def test_metadata_has_the_complete_signature(client: InProcess, patients: Fitted) -> None:
    response = client.get("/v2/models/onnx")
    metadata = ModelMetadata.model_validate(response.json())
    assert (
        tuple(
            Column.of_metadata(TensorMetadata(**tensor.model_dump())) for tensor in metadata.inputs
        )
        == patients.signature.inputs
    )
    assert (
        tuple(Column.of_metadata(tensor) for tensor in metadata.outputs)
        == patients.signature.outputs
    )
    assert (metadata.name, metadata.versions, metadata.platform) == (
        "onnx",
        ["3"],
        "onnxruntime_onnx",
    )


def test_metadata_has_the_origin_of_the_artifact_and_a_valid_example(client: InProcess) -> None:
    parameters = client.get("/v2/models/onnx").json()["parameters"]
    assert (parameters["registeredModel"], parameters["version"], parameters["digest"]) == (
        "heart",
        "3",
        "sha256:" + "0" * 64,
    )
    assert {key: parameters[key] for key in PROVENANCE} == PROVENANCE
    assert parameters["card"] == "1. A model for tests.\n"
    assert outputs(client.post("/v2/models/onnx/infer", json=parameters["example"]))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/onnx/load"),
        ("POST", "/v2/repository/models/onnx/unload"),
        ("POST", "/v2/models/onnx/generate"),
        ("POST", "/v2/models/onnx/infer_stream"),
        ("GET", "/v2/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/v2/models/missing"),
        ("GET", "/v2/models/onnx/versions/4"),
    ],
)
def test_other_paths_are_rejected_with_404(client: InProcess, method: str, path: str) -> None:
    assert refusal(client.request(method, path, json={}), 404)
    assert client.get("/v2/models/onnx/ready").status_code == 200


def test_requests_for_unknown_models_create_no_metrics(client: InProcess, patients: Fitted) -> None:
    assert (
        refusal(client.post("/v2/models/unknown-name/infer", json=patients.request()), 404)
        == "Model unknown-name not found"
    )
    refusal(
        client.post("/v2/models/onnx/versions/unknown-version/infer", json=patients.request()), 404
    )
    assert b"unknown-" not in generate_latest()


def test_a_closing_server_is_not_ready_but_responds_and_closes_connections(
    client: InProcess, middleware: RequestMiddleware, patients: Fitted
) -> None:
    assert client.get("/v2/models/onnx/ready").status_code == 200
    middleware.closing = True
    for path in ("/v2/models/onnx/ready", "/v2/health/ready"):
        assert refusal(client.get(path), 503) == "the server is shutting down"
    assert client.get("/v2/health/live").status_code == 200
    response = client.post("/v2/models/onnx/infer", json=patients.request())
    assert outputs(response)
    assert response.headers["connection"] == "close"


TOKEN = "a-secret-of-the-gateway"


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "é"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/models/onnx/infer"),
        ("POST", "/v2/models/onnx/versions/3/infer"),
        ("GET", "/v2/models/onnx"),
        ("GET", "/v2/models/ready"),  # a model of that name
        ("GET", "/v2"),
        ("GET", "/v2/models/onnx/infer/ready"),
    ],
)
def test_an_unauthenticated_caller_is_rejected_with_401(
    application: FastAPI, sent: dict[str, str], method: str, path: str
) -> None:
    encoded = {name: value.encode() for name, value in sent.items()}
    response = InProcess(RequestMiddleware(application, LIMIT, TOKEN)).request(
        method, path, headers=encoded, content=b"not read"
    )
    assert refusal(response, 401) == "send the predictor's token as Authorization: Bearer"
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_caller_with_the_token_is_accepted(application: FastAPI, patients: Fitted) -> None:
    client, headers = (
        InProcess(RequestMiddleware(application, LIMIT, TOKEN)),
        {"authorization": f"Bearer {TOKEN}"},
    )
    assert (
        client.post("/v2/models/onnx/infer", json=patients.request(), headers=headers).status_code
        == 200
    )
    assert client.request("GET", "/v2/models/onnx", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/onnx/ready",
        "/v2/models/onnx/versions/3/ready",
    ],
)
def test_probes_need_no_token(application: FastAPI, path: str) -> None:
    assert InProcess(RequestMiddleware(application, LIMIT, TOKEN)).get(path).status_code == 200


def test_unverified_artifacts_are_not_served(tmp_path: Path, patients: Fitted) -> None:
    write_artifact(tmp_path / "bare", patients)
    with pytest.raises(Refused, match=r"model-settings\.json cannot be read: No such file"):
        model_settings(tmp_path / "bare")
    (tmp_path / "bare/model-settings.json").write_text('{"implementation": "os.system"}')
    with pytest.raises(Refused, match="was not written by the storage initializer"):
        model_settings(tmp_path / "bare")


def test_each_response_is_logged_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(JsonLines())
    caplog.set_level(logging.INFO, "slipway_serving")
    application = RequestMiddleware(FastAPI(), LIMIT)
    assert (
        InProcess(application)
        .post("/v2/models/onnx/infer", headers={"x-request-id": "0199-abc"}, json={})
        .status_code
        == 404
    )
    (line,) = [json.loads(each) for each in caplog.text.splitlines() if "slipway_serving" in each]
    assert (line["message"], line["requestId"]) == (
        "/v2/models/onnx/infer returned status 404",
        "0199-abc",
    )


def test_log_lines_have_the_request_id_and_the_trace_id() -> None:
    lines: list[str] = []

    async def logging_application(_scope: Any, _receive: Any, send: Any) -> None:
        lines.append(JsonLines().format(logging.makeLogRecord({"msg": "slow"})))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = {"x-request-id": "0199-abc", "traceparent": f"00-{'4b' * 16}-{'00' * 7}01-01"}
    assert (
        InProcess(RequestMiddleware(logging_application, LIMIT))
        .post("/v2/models/onnx/infer", headers=headers, json={})
        .status_code
        == 200
    )
    line = json.loads(lines[0])
    assert (line["requestId"], line["traceId"]) == ("0199-abc", "4b" * 16)


def test_rules_of_an_installed_package_are_served(client: InProcess) -> None:
    response = client.post(
        "/v2/models/sentiment/infer",
        json=text_request(
            "a good day", "a bad and bad day", "", "日本語 \u202eleft\u202c \x00", "a" * 2000
        ),
    )
    assert response.status_code == 200
    compound, label = response.json()["outputs"]
    assert compound["data"] == [1, -1, 0, 0, 0]
    assert label["data"] == [2, 0, 1, 1, 1]
    assert client.get("/v2/models/sentiment").json()["platform"] == "slipway_rules"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("a" * 2001, 422, "text: has 2001 characters; 2000 are allowed"),
        (None, 422, "text: value 0 is null (missing); BYTES is expected"),
        (7, 422, "text: value 0 is 7 (int); BYTES is expected"),
    ],
)
def test_an_invalid_text_is_rejected(
    client: InProcess, text: Any, status: int, reason: str
) -> None:
    response = client.post("/v2/models/sentiment/infer", json=text_request(text))
    assert (response.status_code, response.json()["error"]) == (status, reason)


def test_half_of_a_surrogate_pair_is_rejected(client: InProcess) -> None:
    body = json.dumps(text_request("x")).replace('"x"', '"\\ud83d"')
    response = client.post(
        "/v2/models/sentiment/infer", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert "the body is not JSON" in response.json()["error"]


def test_a_single_output_of_rules_can_be_requested(client: InProcess) -> None:
    response = client.post(
        "/v2/models/sentiment/infer",
        json={**text_request("good", "bad"), "outputs": [{"name": "label"}]},
    )
    assert [(output["name"], output["data"]) for output in response.json()["outputs"]] == [
        ("label", [2, 0])
    ]
