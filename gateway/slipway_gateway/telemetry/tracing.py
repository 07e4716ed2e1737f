"""W3C Trace Context (https://www.w3.org/TR/trace-context/) and OpenTelemetry spans.

The gateway propagates a caller's trace to the predictor. With an OTLP endpoint, set by the
environment variables of OpenTelemetry's specification, it adds its own spans. This module is the
only user of OpenTelemetry's SDK.
"""

import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from slipway_contract.log import trace_id

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NAMES = TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
_HEADER_ATTRIBUTES = {
    b"x-request-id": "slipway.request_id",
    b"slipway-model": "slipway.model",
    b"slipway-version": "slipway.version",
}
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE_LIMIT = 512
"""Minimum length that the standard requires to propagate; a longer ``tracestate`` is dropped."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CONTEXT = TraceContextTextMapPropagator()


def passed_on(headers: Mapping[bytes, bytes]) -> Mapping[str, str] | None:
    """Return the trace headers for the request to the predictor, and set the log's trace id.

    Malformed headers are dropped, as the standard requires.
    """
    parent = headers.get(TRACEPARENT)
    if parent is None or not (found := _TRACEPARENT.fullmatch(parent)):
        return None
    trace_id.set(found[1].decode())
    state = headers.get(TRACESTATE, b"")
    onward = {"traceparent": parent.decode()}
    if state and len(state) <= _STATE_LIMIT:
        onward["tracestate"] = state.decode("latin-1")
    return onward


class Traced:
    """An ASGI middleware that records a span per request, until the last byte of its response.

    The application receives a ``traceparent`` with this span. A background task sends spans in
    batches to an OTLP/HTTP endpoint; without the endpoint spans are lost, requests are not.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "slipway-gateway"}
        resource = Resource.create({SERVICE_VERSION: version("slipway-gateway"), **named})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("slipway_gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        span = self._tracer.start_span(scope["method"], _parent(scope), SpanKind.SERVER)
        scope["headers"] = _child(scope["headers"], span)

        async def traced_send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _set_attributes(span, scope, message)
            await send(message)

        try:
            await self._application(scope, receive, traced_send)
        finally:
            span.end()

    def close(self) -> None:
        """Flush pending spans. Blocks for some seconds when the endpoint is unreachable."""
        self._provider.shutdown()


def wanted() -> bool:
    """Return True when the environment sets an endpoint for traces and does not disable them."""
    named = any(os.environ.get(name) for name in _ENDPOINTS)
    off = (
        os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    return named and not off


def _parent(scope: Scope) -> Context:
    carrier = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _NAMES
    }
    return _CONTEXT.extract(carrier)


def _child(headers: list[tuple[bytes, bytes]], span: Span) -> list[tuple[bytes, bytes]]:
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier, set_span_in_context(span))
    own = [(name.encode(), value.encode("latin-1")) for name, value in carrier.items()]
    return [*((name, value) for name, value in headers if name not in _NAMES), *own]


def _set_attributes(span: Span, scope: Scope, message: MutableMapping[str, Any]) -> None:
    """Set the span's attributes when the response starts.

    The middleware has stored the route in the scope; it has few values, unlike the path.
    """
    status, route = message["status"], scope.get("slipway.route", "")
    span.update_name(f"{scope['method']} {route}".rstrip())
    span.set_attributes(
        {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": status,
        }
    )
    headers = dict(message.get("headers", []))
    for header, attribute in _HEADER_ATTRIBUTES.items():
        if value := headers.get(header):
            span.set_attribute(attribute, value.decode("latin-1"))
    if status >= 500:
        span.set_status(StatusCode.ERROR)
