"""Limits on request bodies in front of Canaille, which authenticates only after it has a body.

The adapter between ASGI and WSGI writes a body of any size, at any speed, to a temporary file
before Canaille sees the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slipway_identity.settings import BodySettings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """The body is rejected; ``status`` is the status of the response."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class BoundedBodies:
    """ASGI middleware that reads each body, within its limits, before it calls the application."""

    def __init__(self, application: Application, settings: BodySettings) -> None:
        self._application = application
        self._limit = settings.body_limit
        self._seconds = settings.body_seconds
        self._most = settings.bodies
        self._under_way = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except Refused as error:
            await _refuse(error, send)
            return
        if body is None:  # the client disconnected
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._application(scope, replay, send)

    async def _read(self, scope: Message, receive: Receive) -> bytes | None:
        """Return the body, or None when the client disconnected before its end. Raises Refused."""
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            raise self._too_large()
        if self._under_way >= self._most:
            raise Refused(503, f"{self._most} bodies are being read; try again")
        self._under_way += 1
        try:
            async with asyncio.timeout(self._seconds):
                return await self._whole(receive)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._seconds:g} s") from None
        finally:
            self._under_way -= 1

    async def _whole(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, f"the body is larger than {self._limit} bytes")


async def _refuse(error: Refused, send: Send) -> None:
    body = str(error).encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if error.status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
