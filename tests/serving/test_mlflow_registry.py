"""Responses of a broken or hostile tracking server, all of which are rejected."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from slipway_serving.errors import Refused
from slipway_serving.mlflow_registry import MlflowRegistry
from slipway_serving.settings import StorageSettings

from tests.support.http_server import Handler, handler_server
from tests.support.waiting import SECONDS

Respond = Callable[[BaseHTTPRequestHandler], None]


def send(status: int, content: object = None, headers: dict[str, str] | None = None) -> Respond:
    """Return a handler that sends a well-formed response."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    """Send half of the announced body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    handler.wfile.write(b"01234")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@contextmanager
def registry(*responses: Respond, **settings: Any) -> Iterator[MlflowRegistry]:
    """Start a server that sends these responses in turn; yield a registry client of it."""
    queue = list(responses)

    class Registry(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
            queue.pop(0)(self)

    with handler_server(Registry) as url, httpx.Client(timeout=SECONDS) as client:
        yield MlflowRegistry(StorageSettings(tracking_uri=url, backoff=0.001, **settings), client)
    assert queue == [], "responses that were not requested"


def tagged(location: object) -> Respond:
    """Return a version whose tag names another artifact."""
    return send(
        200,
        {
            "model_version": {
                "version": "1",
                "tags": [
                    {"key": "owner", "value": "me"},
                    {"key": "slipway.artifact", "value": location},
                ],
            }
        },
    )


UNTAGGED = send(200, {"model_version": {"version": "1"}})


@pytest.mark.parametrize("failure", [send(503), send(500), send(429), hang_up])
def test_a_transient_failure_is_retried(failure: Respond) -> None:
    with registry(
        UNTAGGED, failure, failure, send(200, {"artifact_uri": "mlflow-artifacts:/0/m"})
    ) as mlflow:
        assert mlflow.location("heart", "1") == "0/m"


def test_an_interrupted_download_is_restarted() -> None:
    with registry(broken_off, send(200, b"0123456789")) as mlflow:
        assert mlflow.read("0/m", "model.onnx", b"".join) == b"0123456789"


def test_retries_are_limited() -> None:
    with (
        registry(*[send(503)] * 3, attempts=3) as mlflow,
        pytest.raises(Refused, match=r"does not respond after 3 tries: status 503"),
    ):
        mlflow.location("heart", "1")


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (send(200, b"<html>not JSON"), "returned no JSON: "),
        (send(200, []), "returned no JSON object"),
        (send(200, {"unexpected": 1}), "it has no artifact_uri"),
        (send(302, headers={"Location": "http://127.0.0.1:1/login"}), "returned 302"),
        (send(401), "denies read access to heart version 1"),
        (
            send(200, {"artifact_uri": "s3://bucket/heart"}),
            "lies at s3://bucket/heart, which is not served by the proxy",
        ),
        (
            send(200, {"artifact_uri": "file:///etc"}),
            "lies at file:///etc, which is not served by the proxy",
        ),
        (
            send(200, {"artifact_uri": "mlflow-artifacts://elsewhere:5000/0/m"}),
            "which is not served by the proxy",
        ),
        (
            send(200, {"artifact_uri": "mlflow-artifacts:/0/%2e%2e/m"}),
            "is not a folder in the store",
        ),
        (send(200, {"artifact_uri": "mlflow-artifacts:/"}), "is not a folder in the store"),
    ],
)
def test_an_unexpected_response_is_refused(respond: Respond, reason: str) -> None:
    with registry(UNTAGGED, respond) as mlflow, pytest.raises(Refused) as caught:
        mlflow.location("heart", "1")
    assert reason in str(caught.value)


def test_a_logged_model_is_resolved_to_its_files() -> None:
    model = {"model": {"info": {"artifact_uri": "mlflow-artifacts:/0/models/m-1/artifacts"}}}
    with registry(UNTAGGED, send(200, {"artifact_uri": "models:/m-1"}), send(200, model)) as mlflow:
        assert mlflow.location("heart", "1") == "0/models/m-1/artifacts"


def test_an_adopted_version_is_resolved_to_its_converted_artifact() -> None:
    model = {"model": {"info": {"artifact_uri": "mlflow-artifacts:/0/models/m-a1/artifacts"}}}
    with registry(tagged("models:/m-a1"), send(200, model)) as mlflow:
        assert mlflow.location("heart", "1") == "0/models/m-a1/artifacts"


@pytest.mark.parametrize(
    "location",
    ["mlflow-artifacts:/0/other", "models:/heart/1", "models:/m-1/../x", "file:///etc", "", 7],
)
def test_a_tag_with_another_location_is_refused(location: object) -> None:
    with registry(tagged(location)) as mlflow, pytest.raises(Refused):
        mlflow.location("heart", "1")


def test_a_run_is_resolved_to_its_files() -> None:
    run = {"run": {"info": {"artifact_uri": "mlflow-artifacts:/0/r1/artifacts"}}}
    with registry(
        UNTAGGED, send(200, {"artifact_uri": "runs:/r1/model"}), send(200, run)
    ) as mlflow:
        assert mlflow.location("heart", "1") == "0/r1/artifacts/model"


@pytest.mark.parametrize(
    "version", [{}, {"model_version": {}}, {"model_version": {"version": "1", "tags": [7]}}]
)
def test_a_response_without_a_version_is_refused(version: object) -> None:
    with (
        registry(send(200, version)) as mlflow,
        pytest.raises(Refused, match=r"returned an unexpected response: model_version"),
    ):
        mlflow.location("heart", "1")


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "/etc/passwd", ""])
def test_a_listing_with_a_path_is_refused(name: str) -> None:
    with (
        registry(send(200, {"files": [{"path": name}]})) as mlflow,
        pytest.raises(Refused, match="is not a plain name"),
    ):
        mlflow.files("0/m")


def test_too_many_folders_are_refused() -> None:
    listing = send(200, {"files": [{"path": f"d{i}", "is_dir": True} for i in range(10_001)]})
    with registry(listing) as mlflow, pytest.raises(Refused, match="more than 10000 files"):
        mlflow.files("0/m")


def test_control_characters_are_removed_from_reasons() -> None:
    assert str(Refused("a\nb\x1b[31m\tc")) == "a b [31m c"
