"""What stands in front of MLServer's application: who may come in and with how much, and the
closing of the shop.
"""

import json
import logging
import re
from dataclasses import dataclass
from hmac import compare_digest

from slipway_contract import log
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

_LIVE = "/v2/health/live"
_READY = re.compile(r"/v2/(health|models/[^/]+(/versions/[^/]+)?)/ready")

_LONGEST_ID = 64
"""Of a caller's request id in our log; the gateway's has 36 letters."""


class RequestMiddleware:
    """Refuses strangers where there is a token, and bodies that are too large, compressed (a small
    one can unpack to any size) or no JSON.

    Once ``closing`` is set, readiness is false, every answer asks its caller to open no second
    request on the connection, and inference goes on: late callers are still served.
    """

    def __init__(
        self,
        app: ASGIApp,
        body_limit: int,
        token: str | None = None,
        *,
        body_budget: int = 64 * 2**20,
    ) -> None:
        self._app = app
        self._limit = body_limit
        self._budget = body_budget
        self._held = 0
        """Bytes of the bodies of all requests under way."""
        self._credential = f"Bearer {token}".encode() if token else None
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.closing:
            send = _last_on_connection(send)
            if _READY.fullmatch(scope["path"]):
                await _answer(send, 503, "the server is shutting down")
                return
        headers = Headers(scope=scope)
        log.request_id.set(headers.get("x-request-id", "")[:_LONGEST_ID])
        log.trace_id.set(headers.get("traceparent", "")[3:35])
        if self._is_stranger(scope["path"], headers):
            await _answer(
                send,
                401,
                "send the predictor's token as Authorization: Bearer",
                (b"www-authenticate", b"Bearer"),
            )
            return
        refusal = self._refusal(headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        if scope["path"].endswith("/infer"):
            send = _logged(scope["path"], send)
        body = _Body()
        try:
            await self._app(scope, self._bounded(receive, body), send)
        finally:
            self._held -= body.size

    def _is_stranger(self, path: str, headers: Headers) -> bool:
        if (
            self._credential is None or path == _LIVE or _READY.fullmatch(path)
        ):  # probes come from a kubelet, without a token
            return False
        # In a time that does not depend on how much of it is right.
        return not compare_digest(
            headers.get("authorization", "").encode("latin-1"), self._credential
        )

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        if (
            int(headers.get("content-length", 0)) > self._limit
        ):  # the HTTP parser lets only digits through
            return 413, self._too_large
        if headers.get("content-encoding", "identity") != "identity":
            return 415, "content-encoding: compressed bodies are not accepted"
        kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            return 415, f"content-type: {kind[:80]} is not accepted; send application/json"
        return None

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._limit} bytes"

    def _bounded(self, receive: Receive, body: "_Body") -> Receive:
        """Count what is read, piece by piece: a chunked body does not say its length."""

        async def bounded() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            body.size += size
            self._held += size
            if body.size > self._limit:
                raise HTTPException(413, self._too_large)
            if self._held > self._budget:
                raise HTTPException(
                    503,
                    "the bodies of all requests under way take all memory for them",
                    {"retry-after": "1"},
                )
            return message

        return bounded


def _logged(path: str, send: Send) -> Send:
    """Log each answer; the line has the request's id."""

    async def logged(message: Message) -> None:
        if message["type"] == "http.response.start":
            _log.info("%s answered %d", path, message["status"])
        await send(message)

    return logged


@dataclass
class _Body:
    """Of one request, as far as it has arrived."""

    size: int = 0


def _last_on_connection(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
        await send(message)

    return closing


async def _answer(send: Send, status: int, error: str, *added: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *added,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
