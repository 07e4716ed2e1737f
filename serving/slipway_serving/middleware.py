"""Middleware in front of MLServer: authentication, request limits and graceful shutdown."""

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
"""Characters of a caller's request id that are logged; the gateway's ids have 36."""


class RequestMiddleware:
    """Rejects callers without the token, and bodies that are too large, compressed or not JSON.

    Compressed bodies are rejected because a small one can unpack to any size. Once ``closing`` is
    set, readiness is false and every response closes its connection; inference continues for
    requests that still arrive.
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
        """Bytes of request bodies that are in memory now."""
        self._credential = f"Bearer {token}".encode() if token else None
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.closing:
            send = _last_on_connection(send)
            if _READY.fullmatch(scope["path"]):
                await _respond(send, 503, "the server is shutting down")
                return
        headers = Headers(scope=scope)
        log.request_id.set(headers.get("x-request-id", "")[:_LONGEST_ID])
        log.trace_id.set(headers.get("traceparent", "")[3:35])
        if self._is_unauthenticated(scope["path"], headers):
            await _respond(
                send,
                401,
                "send the predictor's token as Authorization: Bearer",
                (b"www-authenticate", b"Bearer"),
            )
            return
        refusal = self._refusal(headers)
        if refusal is not None:
            await _respond(send, *refusal)
            return
        if scope["path"].endswith("/infer"):
            send = _logged(scope["path"], send)
        body = _Body()
        try:
            await self._app(scope, self._bounded(receive, body), send)
        finally:
            self._held -= body.size

    def _is_unauthenticated(self, path: str, headers: Headers) -> bool:
        # The kubelet sends its probes without a token.
        if self._credential is None or path == _LIVE or _READY.fullmatch(path):
            return False
        return not compare_digest(
            headers.get("authorization", "").encode("latin-1"), self._credential
        )

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        # The HTTP parser has rejected lengths that are not digits.
        if int(headers.get("content-length", 0)) > self._limit:
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
        """Count the body's bytes as they arrive: a chunked body does not declare its length."""

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
                    "the memory for request bodies is used up; send the request again later",
                    {"retry-after": "1"},
                )
            return message

        return bounded


def _logged(path: str, send: Send) -> Send:
    """Log the status of each response; the log line carries the request id."""

    async def logged(message: Message) -> None:
        if message["type"] == "http.response.start":
            _log.info("%s returned status %d", path, message["status"])
        await send(message)

    return logged


@dataclass
class _Body:
    """The body of one request, as far as it has arrived."""

    size: int = 0


def _last_on_connection(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
        await send(message)

    return closing


async def _respond(send: Send, status: int, error: str, *added: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *added,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
