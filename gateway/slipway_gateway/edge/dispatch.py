"""The handler of an authorized request: V2, an async prediction, or a route in FastAPI."""

import asyncio
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_gateway.edge.async_predictions import FORM, AsyncPredictions
from slipway_gateway.errors import JSON
from slipway_gateway.http.body import Body, check_headers
from slipway_gateway.http.coding import unpacked
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.inference.v2 import V2
from slipway_gateway.telemetry.metrics import Metrics

MERGE_PATCH = b"application/merge-patch+json"
PIECE = 2**16
"""Bytes of a form that are parsed without returning to the event loop."""
CONTROL_BODY_LIMIT = 2**16
"""Maximum size in bytes of a body that is neither a prediction nor streamed, such as a policy."""
STREAMED = frozenset({"batch"})
"""Rules whose handlers read and limit the body themselves."""
WITH_BODY = ("POST", "PUT", "PATCH")


class Dispatch:
    """Calls the handler of an authorized request, also of a task that was stored earlier.

    Raises any error; the middlewares around it send the error response.
    """

    def __init__(self, v2: V2, api: ASGIApp, metrics: Metrics, *, body_limit: int) -> None:
        self._v2 = v2
        self._api = api
        self._metrics = metrics
        self._body_limit = body_limit

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        exchange: Exchange = scope["slipway.exchange"]
        if exchange.rule.path.startswith("/v2"):
            return self._v2(exchange)
        return self._call_api(exchange, scope, receive, send)

    async def _call_api(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        rule = exchange.rule
        if rule.method in WITH_BODY and rule.name not in STREAMED:
            is_prediction = rule.name == "predict"
            limit = self._body_limit if is_prediction else min(CONTROL_BODY_LIMIT, self._body_limit)
            other = MERGE_PATCH if rule.method == "PATCH" else JSON
            receive = await _whole(exchange, limit, FORM if is_prediction else other)
        started = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - started
                self._metrics.answered(scope["method"], rule.path, message["status"], seconds)
            await send(message)

        # FastAPI's GET routes do not accept HEAD. The server uses its scope, so it is copied.
        await self._api(
            {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, measured
        )


class RespondAsync:
    """Stores a prediction that prefers an asynchronous response as a task."""

    def __init__(self, app: ASGIApp, predictions: AsyncPredictions) -> None:
        self._app = app
        self._predictions = predictions

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        exchange: Exchange = scope["slipway.exchange"]
        if b"prefer" in exchange.headers and self._predictions.requested(exchange):
            return self._predictions.accept(exchange, scope["path"])
        return self._app(scope, receive, send)


async def _whole(exchange: Exchange, limit: int, content_type: bytes) -> Receive:
    """Read a body of the control API within ``limit`` bytes and return a function that replays it.

    Raises TooLarge, UnsupportedType, TooManyAtOnce, NoMemory.
    """
    headers = exchange.headers
    check_headers(headers, limit, content_type)
    receive = unpacked(headers, exchange.receive, limit)
    body = (await Body.read(receive, limit=limit, keep=limit, share=exchange.share)).whole or b""
    # The form parser is written in Python; pieces bound the time that it blocks the event loop.
    size = PIECE if headers.get(b"content-type", b"").lower().startswith(FORM) else len(body)
    pieces = iter(
        [body[start : start + size] for start in range(0, len(body), size)] if size else [b""]
    )
    left = len(body)

    async def replay() -> Message:
        nonlocal left
        piece = next(pieces, None)
        if piece is None:
            return await receive()
        left -= len(piece)
        if left:
            await asyncio.sleep(0)
        return {"type": "http.request", "body": piece, "more_body": left > 0}

    return replay
