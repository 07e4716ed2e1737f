"""W3C Trace Context: a caller's trace goes on to the predictor, and with an OpenTelemetry endpoint
the gateway's spans are in it.

https://www.w3.org/TR/trace-context/ and the environment variables of OpenTelemetry's specification.
The door to its SDK.
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
_NOTED = {
    b"x-request-id": "slipway.request_id",
    b"slipway-model": "slipway.model",
    b"slipway-version": "slipway.version",
}
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LONGEST_STATE = 512
"""What the standard asks everybody to pass on; a longer one is dropped whole."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_CONTEXT = TraceContextTextMapPropagator()


def passed_on(headers: Mapping[bytes, bytes]) -> Mapping[str, str] | None:
    """The trace headers of a request for the one that it causes. Malformed ones end here, as the
    standard asks.
    """
    parent = headers.get(TRACEPARENT)
    if parent is None or not (found := _TRACEPARENT.fullmatch(parent)):
        return None
    trace_id.set(found[1].decode())
    state = headers.get(TRACESTATE, b"")
    onward = {"traceparent": parent.decode()}
    if state and len(state) <= _LONGEST_STATE:
        onward["tracestate"] = state.decode("latin-1")
    return onward


class Traced:
    """An ASGI application with a span for each request, from its headers to its answer's last byte.

    The application sees a ``traceparent`` that names this span. Spans go to an OTLP/HTTP endpoint,
    in batches, in the background; an endpoint that is away costs spans, not requests.
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

        async def noted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _note(span, scope, message)
            await send(message)

        try:
            await self._application(scope, receive, noted)
        finally:
            span.end()

    def close(self) -> None:
        """Send what waits. Blocks for some seconds when the endpoint is away."""
        self._provider.shutdown()


def wanted() -> bool:
    """Whether the environment names an endpoint for traces."""
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


def _note(span: Span, scope: Scope, message: MutableMapping[str, Any]) -> None:
    """What is known once the answer begins. The door has noted the route, which has few values,
    unlike the path.
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
    for header, attribute in _NOTED.items():
        if value := headers.get(header):
            span.set_attribute(attribute, value.decode("latin-1"))
    if status >= 500:
        span.set_status(StatusCode.ERROR)
