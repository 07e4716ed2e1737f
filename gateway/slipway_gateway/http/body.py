"""Request bodies, buffered or streamed."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from slipway_gateway.errors import JSON, Disconnected, TooLarge, TooManyAtOnce, UnsupportedType
from slipway_gateway.http.bodybudget import BodyShare

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Body:
    """A request body with a size limit: a small one is buffered, a large one streamed."""

    __slots__ = ("_limit", "_receive", "_share", "_size", "_start", "_started", "failure", "whole")

    def __init__(self, whole: bytes) -> None:
        self.whole: bytes | None = whole
        """The complete body; None for a streamed one."""
        self.failure: Exception | None = None
        """The error while streaming, because the client library would wrap it."""
        self._start = b""
        self._size = len(whole)
        self._started = False
        self._limit = 0
        self._receive: Receive | None = None
        self._share: BodyShare | None = None

    @classmethod
    async def read(
        cls, receive: Receive, *, limit: int, keep: int, share: BodyShare | None = None
    ) -> "Body":
        """Read a body; one of more than ``keep`` bytes is left to ``stream``.

        ``share`` accounts for the memory; None when the caller does so. Raises TooLarge,
        Disconnected, TooManyAtOnce, NoMemory.
        """
        if share is not None:
            share.expect()
        start = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece: bytes = message["body"]
            if len(start) + len(piece) > limit:
                raise TooLarge(limit)
            if share is not None:
                share.take(len(piece))
            is_last = not message.get("more_body")
            if is_last and not start:
                return cls(piece)
            start += piece
            if is_last:
                return cls(bytes(start))
            if len(start) > keep:
                return cls._streamed(bytes(start), receive, limit, share)

    @classmethod
    def _streamed(
        cls, start: bytes, receive: Receive, limit: int, share: BodyShare | None
    ) -> "Body":
        body = cls(start)
        body.whole, body._start = None, start
        body._receive, body._limit, body._share = receive, limit, share
        return body

    @property
    def can_repeat(self) -> bool:
        return self.whole is not None or not self._started

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the chunks of a large body; store an error in ``failure`` before raising it."""
        self._started = True
        yield self._start
        self._start = b""
        while self._receive is not None:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.failure = Disconnected()
                raise self.failure
            self._size += len(message["body"])
            if self._size > self._limit:
                self.failure = TooLarge(self._limit)
                raise self.failure
            if self._share is not None:
                try:
                    self._share.reserve(self._size)
                except TooManyAtOnce as error:
                    self.failure = error
                    raise
            yield message["body"]
            if not message.get("more_body"):
                return


def check_headers(headers: dict[bytes, bytes], limit: int, content_type: bytes = JSON) -> None:
    """Validate Content-Type and Content-Length. Raises UnsupportedType, TooLarge."""
    given = headers.get(b"content-type", content_type).partition(b";")[0].strip().lower()
    accepted = list(dict.fromkeys((JSON, content_type)))
    if given not in accepted:
        names = " or ".join(each.decode() for each in accepted)
        raise UnsupportedType(
            f"content type {given.decode('latin-1')[:80]} is not supported; send the header "
            f"Content-Type: {names}"
        )
    if declared_length(headers) > limit:
        raise TooLarge(limit)


def declared_length(headers: dict[bytes, bytes]) -> int:
    """Return the Content-Length; 0 without a valid one."""
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0
