"""HTTP content codings of requests and responses: gzip and deflate (RFC 9110, section 8.4.1)."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import aclosing
from typing import Any

from slipway_contract.errors import MalformedRequest

from slipway_gateway.errors import TooLarge, UnsupportedType
from slipway_gateway.http.body import Receive
from slipway_gateway.http.link import Answer

WBITS = {b"gzip": 31, b"deflate": 15}
"""zlib's ``wbits`` of the two formats (RFC 1952 and RFC 1950)."""

PIECE = 2**16
"""Maximum size in bytes of a decompressed chunk."""

WORTH = 1024
"""Minimum size in bytes of a compressed response; a smaller one fits into one packet anyway."""

LEVEL = 1
"""zlib's compression level. It reduces JSON numbers to a third; higher levels take more time than
they save.
"""


def unpacked(headers: dict[bytes, bytes], receive: Receive, limit: int) -> Receive:
    """Return a ``Receive`` that decodes the request's Content-Encoding.

    It reads at most ``limit`` compressed bytes. Raises UnsupportedType; the returned callable
    raises MalformedRequest and TooLarge.
    """
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding == b"identity":
        return receive
    if coding not in WBITS:
        names = b", ".join(WBITS)
        raise UnsupportedType(
            f"send the body uncompressed, or compressed by {names.decode()}",
            [(b"accept-encoding", names)],
        )
    return Unpacking(coding, receive, limit)


class Unpacking:
    """A ``Receive`` that decompresses the body of another one in chunks."""

    def __init__(self, coding: bytes, receive: Receive, limit: int) -> None:
        self._coding = coding.decode()
        self._stream = zlib.decompressobj(WBITS[coding])
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._packed = b""
        self._more = True
        self._full = False
        """True when the last chunk had the maximum size: zlib may buffer more output."""

    async def __call__(self) -> MutableMapping[str, Any]:
        while True:
            if not self._packed and not self._full and self._more:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    return message
                self._take(message)
            else:  # a small input can have a large output: let other requests run in between
                await asyncio.sleep(0)
            piece = self._unpack()
            last = not (self._packed or self._full or self._more)
            if last and not self._stream.eof:
                raise MalformedRequest(f"the body ends before its {self._coding} does")
            if piece or last:
                return {"type": "http.request", "body": piece, "more_body": not last}

    def _take(self, message: MutableMapping[str, Any]) -> None:
        self._packed, self._more = message["body"], message.get("more_body", False)
        self._size += len(self._packed)
        if self._size > self._limit:
            raise TooLarge(self._limit)
        if self._packed and self._stream.eof:
            raise MalformedRequest(f"the body continues after the end of its {self._coding}")

    def _unpack(self) -> bytes:
        if self._stream.eof:
            return b""
        try:
            piece = self._stream.decompress(self._packed, PIECE)
        except zlib.error:
            raise MalformedRequest(f"the body is not {self._coding}") from None
        if self._stream.unused_data:
            raise MalformedRequest(f"the body continues after the end of its {self._coding}")
        self._packed = self._stream.unconsumed_tail
        self._full = len(piece) == PIECE and not self._stream.eof
        return piece


def preferred(accepted: bytes) -> bytes | None:
    """Return the coding of a response by the request's Accept-Encoding; None for no coding."""
    weights = dict(map(_weighted, accepted.lower().split(b",")))
    for coding in WBITS:
        if weights.get(coding, weights.get(b"*", 0.0)) > 0:
            return coding
    return None


def _weighted(item: bytes) -> tuple[bytes, float]:
    """Parse an item such as ``gzip;q=0.5`` to coding and weight; an invalid weight is 1."""
    name, _, parameter = item.partition(b";")
    key, _, weight = parameter.strip().partition(b"=")
    try:
        return name.strip(), float(weight) if key.strip() == b"q" else 1.0
    except ValueError:
        return name.strip(), 1.0


def pack(answer: Answer, coding: bytes) -> None:
    """Compress a response in place; its ``rest`` is compressed while it is streamed."""
    stream = zlib.compressobj(LEVEL, wbits=WBITS[coding])
    answer.head = stream.compress(answer.head)
    if answer.rest is None:
        answer.head += stream.flush()
    else:
        answer.rest = _packed(answer.rest, stream)


async def _packed(
    rest: AsyncGenerator[bytes, None], stream: "zlib._Compress"
) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        async for chunk in rest:
            if piece := stream.compress(chunk):
                yield piece
    yield stream.flush()
