"""Observability: metrics with few series, exemplars, propagated traces, logs with request ids."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics.exposition import generate_latest

from tests.gateway.environment import Client, Environment, Process, v2_request
from tests.support.asgi_server import AsgiServer
from tests.support.waiting import SECONDS, wait_for

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BODY = v2_request()


def exposed(client: Client) -> str:
    """Return the metrics in OpenMetrics format, with exemplars."""
    return str(generate_latest(client.gateway.metrics.registry).decode())  # type: ignore[no-untyped-call]


def test_predictions_are_counted_and_timed_by_model_version_and_outcome(client: Client) -> None:
    labels = {"model": "heart", "version": "3"}
    names = {
        "good": ("slipway_predictions_total", {**labels, "outcome": "2xx"}),
        "bad": ("slipway_predictions_total", {**labels, "outcome": "4xx"}),
        "timed": ("slipway_prediction_seconds_count", labels),
    }

    def seen() -> dict[str, float]:
        return {
            key: client.gateway.metrics.registry.get_sample_value(*name) or 0
            for key, name in names.items()
        }

    before = seen()
    client.infer("heart")
    client.infer("heart", age=-1)
    assert {key: value - before[key] for key, value in seen().items()} == {
        "good": 1,
        "bad": 1,
        "timed": 2,
    }


def test_an_exemplar_has_the_request_id_of_a_receipt(client: Client) -> None:
    def shown() -> bool:
        number = client.infer("heart").headers["x-request-id"]
        return f'# {{request_id="{number}"}}' in exposed(client)

    wait_for("a request that became an exemplar, one each second", shown)


def test_names_from_callers_do_not_become_labels(client: Client) -> None:
    labels = {"method": "GET", "route": "/v1/models/{model}", "outcome": "4xx"}

    def counted() -> float:
        return (
            client.gateway.metrics.registry.get_sample_value(
                "slipway_request_seconds_count", labels
            )
            or 0
        )

    before = counted()
    for number in range(20):
        client.get(f"/v1/models/made-up-{number}")
        client.infer(f"made-up-{number}")
    assert "made-up" not in exposed(client)
    assert counted() - before == 20


def test_a_callers_trace_is_propagated_to_the_predictor(
    environment: Environment, client: Client
) -> None:
    client.post("/v2/models/heart/infer", BODY, traceparent=TRACEPARENT, tracestate="vendor=1")
    assert environment.predictor.headers[b"traceparent"] == TRACEPARENT.encode()
    assert environment.predictor.headers[b"tracestate"] == b"vendor=1"


@pytest.mark.parametrize(
    "wrong", ["", "00-zz-00-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01"]
)
def test_a_malformed_trace_is_not_propagated(
    environment: Environment, client: Client, wrong: str
) -> None:
    answer = client.post("/v2/models/heart/infer", BODY, traceparent=wrong, tracestate="vendor=1")
    assert answer.status_code == 200
    assert b"traceparent" not in environment.predictor.headers
    assert b"tracestate" not in environment.predictor.headers


def test_every_log_line_is_json_with_the_request_id(environment: Environment) -> None:
    process = Process(environment)
    process.wait_ready()
    environment.predictor.cut_off = True
    with pytest.raises(httpx.RemoteProtocolError):
        process.client.post("/v2/models/heart/infer", BODY, traceparent=TRACEPARENT)
    environment.predictor.cut_off = False
    lines = wait_for(
        "the warning", lambda: [line for line in read(process) if line["level"] == "warning"]
    )
    process.process.terminate()
    assert process.process.wait(SECONDS) == 0
    assert re.fullmatch(r"[0-9a-f-]{36}", lines[0]["requestId"])
    assert lines[0]["traceId"] == TRACE


def read(process: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.log.read_text().splitlines()]


class Collector:
    """A collector of spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            }
            self.spans += [span for scoped in resource.scope_spans for span in scoped.spans]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Return a collector that OpenTelemetry's standard variables configure."""
    found = Collector()
    with AsgiServer(found) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield found


def test_spans_are_sent_to_the_endpoint_from_the_environment(
    environment: Environment, collector: Collector
) -> None:
    with environment.gateway() as client:
        answer = client.post("/v2/models/heart/infer", BODY, traceparent=TRACEPARENT)
        refused = client.get("/v1/nothing")
        span: Any = wait_for(
            "the span",
            lambda: next(
                (s for s in collector.spans if s.name == "POST /v2/models/{model}/infer"), None
            ),
        )
        wait_for("the refusal's span", lambda: [s for s in collector.spans if s.name == "GET"])
    assert collector.services == {"slipway-gateway"}
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    attributes = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
    assert attributes["http.response.status_code"] == answer.status_code == 200
    assert attributes["slipway.request_id"] == answer.headers["x-request-id"]
    assert (attributes["slipway.model"], attributes["slipway.version"]) == ("heart", "3")
    assert refused.status_code == 404
    # The predictor's span is a child of the gateway's span.
    assert (
        environment.predictor.headers[b"traceparent"].decode()
        == f"00-{TRACE}-{span.span_id.hex()}-01"
    )


def test_requests_succeed_without_the_trace_endpoint(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with environment.gateway() as client:
        assert client.infer("heart").status_code == 200
