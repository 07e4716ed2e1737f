"""A client connection to a predictor: HTTP/1.1 on the event loop, one exchange at a time."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import httptools

from slipway_gateway.errors import UpstreamAborted
from slipway_gateway.http.body import Body

LARGE = 2**16
"""Size in bytes from which a body is written directly instead of copied to save a system call."""
AHEAD = 2**18
"""Maximum number of buffered bytes of a response; then reading pauses."""
WHOLE_LIMIT = 2**26
"""Maximum size in bytes of a response that is read into memory; a longer one can only be streamed.
"""
HEAD_LIMIT = 2**16
"""Maximum size in bytes of headers, chunk sizes, chunk extensions and trailers of a response."""
CHUNK_FRAMING = 20
"""Bytes of framing per chunk that do not count: up to 16 hexadecimal digits and two line ends."""
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
"""Headers that frame a response; without them it ends with its connection."""


class Answer:
    """A predictor's response. ``head`` is the complete body unless ``rest`` yields more."""

    __slots__ = ("content_type", "head", "rest", "status")

    def __init__(
        self, status: int, content_type: str, head: bytes, rest: AsyncGenerator[bytes, None] | None
    ) -> None:
        self.status = status
        self.content_type = content_type
        self.head = head
        self.rest = rest

    async def whole(self) -> bytes:
        """Return the complete body, which is then in ``head``.

        Raises UpstreamAborted, also for more than WHOLE_LIMIT bytes.
        """
        if self.rest is not None:
            content = bytearray(self.head)
            async with aclosing(self.rest) as rest:
                async for chunk in rest:
                    content += chunk
                    if len(content) > WHOLE_LIMIT:
                        raise UpstreamAborted(
                            f"the model's response is larger than {WHOLE_LIMIT} bytes"
                        )
            self.head, self.rest = bytes(content), None
        return self.head


class Broken(Exception):
    """The connection ended before the response; ``started`` is True after a part of it."""

    def __init__(self, *, started: bool) -> None:
        super().__init__("the connection ended")
        self.started = started


class ResponseTimeout(Exception):
    """The response did not arrive in time."""


class NotHttp(Exception):
    """The received bytes are not an HTTP/1.1 response."""


class Link(asyncio.Protocol):
    """A connection for one request at a time.

    It calls ``on_idle`` when it is free for the next request, and ``on_closed`` when it is closed.
    """

    def __init__(
        self,
        *,
        head_limit: int,
        idle_seconds: float,
        on_idle: "Callable[[Link], None]",
        on_closed: "Callable[[Link], None]",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._head_limit = head_limit
        self._idle_seconds = idle_seconds
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        """Deadline by the loop's clock, of the response or of the idle time after it."""
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._paused = False
        self._error: Exception | None = None
        self._reset()

    def _reset(self) -> None:
        self._status = 0
        self._content_type = "application/json"
        self._framed = False
        self._overhead = 0
        self._chunks: list[bytes] = []
        self._size = 0
        self._complete = False
        self._sent = False
        """True when the complete request is written."""
        self._keep_alive = False
        """True when the predictor keeps the connection open."""

    # --- called by a request

    async def post(self, head: bytes, body: Body, until: float) -> Answer:
        """Send a request and return its response.

        ``head`` has all headers except the body's framing. ``until`` is the deadline by the loop's
        clock. Raises Broken, ResponseTimeout, NotHttp, and the errors of reading ``body``.
        """
        self._reset()
        self._until = until
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._check_deadline)
        try:
            if body.whole is not None:
                self._send(b"%bcontent-length: %d\r\n\r\n" % (head, len(body.whole)), body.whole)
            else:
                await self._stream(head, body)
            while not self._complete and self._size <= self._head_limit:
                await self._more()
        except BaseException:
            self.close()
            raise
        content = self._take_chunks()
        if not self._complete:
            return Answer(self._status, self._content_type, content, self._rest())
        self._release_or_close()
        return Answer(self._status, self._content_type, content, None)

    def _send(self, head: bytes, content: bytes) -> None:
        if len(content) <= LARGE:
            self._transport.write(head + content)
        else:
            self._transport.write(head)
            self._transport.write(content)
        self._sent = True

    async def _stream(self, head: bytes, body: Body) -> None:
        """Send a chunked body with backpressure; stop when a response arrives before its end."""
        self._transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
        async for chunk in body.stream():
            if self._error is not None:
                raise self._error
            if self._status:
                return
            if chunk:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if self._drain is not None:
                await self._drain
        self._transport.write(b"0\r\n\r\n")
        self._sent = True

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _take_chunks(self) -> bytes:
        chunks = self._chunks
        content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        return content

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        """Yield the rest of a long response. Raises UpstreamAborted."""
        try:
            while not self._complete or self._chunks:
                if not self._chunks:
                    self._resume()
                    await self._more()
                if content := self._take_chunks():
                    yield content
            self._release_or_close()
        except (Broken, ResponseTimeout, NotHttp) as error:
            raise UpstreamAborted("the model broke off its answer") from error
        finally:
            if not self._complete:
                self.close()

    def _release_or_close(self) -> None:
        if self._sent and self._keep_alive and self._error is None:
            self._until = self._loop.time() + self._idle_seconds
            self._resume()
            self._on_idle(self)
        else:
            self.close()

    def close(self) -> None:
        """Abort the connection immediately."""
        self._on_closed(self)
        self._transport.abort()

    # --- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is an asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._status and not self._framed and exc is None:
            self._complete = True  # an unframed response ends with its connection
        self._fail(Broken(started=self._status != 0))
        self._on_closed(self)

    def data_received(self, data: bytes) -> None:
        self._overhead = max(self._overhead, 0) + len(data)
        try:
            self._parser.feed_data(data)
            is_valid = self._overhead <= HEAD_LIMIT
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            is_valid = False
        if not is_valid:
            self._fail(NotHttp())
            self.close()

    def pause_writing(self) -> None:
        self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        self._release(self._drain)
        self._drain = None

    def _check_deadline(self) -> None:
        """Fail after the deadline or check again later; a timer per request would cost more."""
        left = self._until - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_deadline)
        else:
            self._timer = None
            self._fail(ResponseTimeout())
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._release(self._drain)
        if self._waiter is not None and not self._waiter.done():
            if self._complete:
                self._waiter.set_result(None)
            else:
                self._waiter.set_exception(self._error)

    @staticmethod
    def _release(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    # --- called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._content_type = value.decode("latin-1")
        elif name in FRAMING:
            self._framed = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status

    def on_chunk_header(self) -> None:
        self._overhead -= CHUNK_FRAMING

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        self._chunks.append(body)
        self._size += len(body)
        if self._size > self._head_limit:
            self._release(self._waiter)
            if self._size > AHEAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._status:  # an interim response such as 103 has none
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()
            self._release(self._waiter)
