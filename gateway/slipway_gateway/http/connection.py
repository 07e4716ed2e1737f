"""Server connections: uvicorn's protocol with limits of size and time, and fewer system calls."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from slipway_gateway.errors import (
    BadRequest,
    GatewayError,
    HeadTooLarge,
    NoConnection,
    NoMemory,
    TooSlow,
    error_response,
)
from slipway_gateway.http.bodybudget import BodyBudget
from slipway_gateway.http.link import CHUNK_FRAMING
from slipway_gateway.requestid import new_id

LARGE = 2**16
"""Size in bytes from which data is written directly instead of copied to save a system call."""
PIPELINED = 16
"""Maximum number of pipelined requests on a connection. One read can contain 14,000."""
UNREAD = "slipway.unread"
"""Key in a request's scope: bytes of its body that the application has not received yet."""
TRAILERS = "trailers and chunk extensions"


@dataclass(frozen=True)
class Limits:
    """Limits of a connection; the settings document the reasons."""

    connections: int = 4096
    head_bytes: int = 32 * 2**10
    headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    write_seconds: float = 30.0


class Awaited(Enum):
    """The part of a request that a connection has not received in full."""

    HEAD = "head"
    BODY = "body"
    REST = "rest"
    """The rest of a body after its response, or an empty line."""


class CoalescingTransport:
    """A transport that joins small writes of one loop iteration.

    uvicorn writes the head and the body of a response separately, and uvloop makes a system call
    for each: that is a tenth of the gateway's time for a prediction.
    """

    __slots__ = ("_loop", "_pending", "_transport", "_write_seconds")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, write_seconds: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._write_seconds = write_seconds
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        if len(data) > LARGE:
            self._flush()
            self._transport.write(data)
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        """Close after all data is written, or abort when the client does not read it in time."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._write_seconds, self._transport.abort)

    def _flush(self) -> None:
        if self._pending:
            self._transport.write(b"".join(self._pending))
            self._pending.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """The connection of one client.

    uvicorn has a timeout only between requests. Here a timer also runs while a request is
    incomplete. Most requests arrive in one read and need no timer.
    """

    def __init__(
        self,
        *arguments: Any,
        limits: Limits,
        bodies: BodyBudget,
        refused: Callable[[int, str | None], None],
        **named: Any,
    ) -> None:
        """Create a protocol; ``refused`` counts rejected requests by status and limit."""
        super().__init__(*arguments, **named)
        self._limits = limits
        self._bodies = bodies
        self._refused = refused
        self._application = self.app
        self.app = self._counted
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._timed: tuple[Awaited, Any] | None = None
        """The awaited part and the ASGI scope of the request for which the timer runs."""
        self._head_bytes = 0
        """Received bytes of an incomplete head, including the read that completes it."""
        self._in_body = False
        """True between the head and the end of a request."""
        self._framing = 0
        """Bytes of chunk sizes, chunk extensions and trailers beyond those of plain chunks."""
        self._trailers = 0
        self._refusal: GatewayError | None = None
        self._idle_since: float | None = None
        """Time of the last complete response; None while a request follows."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._surplus = False
        """True for a connection over the limit, which is rejected."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        coalescing = CoalescingTransport(transport, self.loop, self._limits.write_seconds)
        super().connection_made(coalescing)  # type: ignore[arg-type]
        self._surplus = len(self.connections) > self._limits.connections
        self._time(Awaited.HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._writing, self._idle_timer):
            if timer is not None:
                timer.cancel()
        for scope in (self.scope, *(cycle.scope for cycle, _ in self.pipeline)):
            if scope is not None:
                self._give_back(scope)
        super().connection_lost(exc)

    async def _counted(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application and release the budget of body chunks that it receives."""

        async def received() -> Any:
            message = await receive()
            if taken := len(message.get("body", b"")):
                scope[UNREAD] -= taken
                self._bodies.give_back(taken)
            return message

        try:
            await self._application(scope, received, send)
        finally:
            self._give_back(scope)

    def _give_back(self, scope: Any) -> None:
        """Release the budget of the unread rest of a request's body."""
        self._bodies.give_back(scope.pop(UNREAD, 0))

    def data_received(self, data: bytes) -> None:
        if self._surplus:
            # After a read, because closing with unread data would reset the connection before the
            # client reads the error.
            self._refuse(NoConnection())
            return
        self._head_bytes += len(data)
        self._idle_since = None
        self._framing = self._framing + len(data) if self._in_body else 0
        super().data_received(data)
        self._framing = max(self._framing, 0)  # content gives no credit for framing
        if self._in_body and self._framing > self._limits.head_bytes:
            self._refuse(HeadTooLarge(self._limits.head_bytes, self._limits.headers, TRAILERS))
        awaited = self._awaited()
        if awaited is not Awaited.HEAD:
            self._head_bytes = 0
        elif self._head_bytes > self._limits.head_bytes:
            self._refuse(HeadTooLarge(self._limits.head_bytes, self._limits.headers))
        if awaited is not None or self._timer is not None:
            self._time(awaited)

    def _awaited(self) -> Awaited | None:
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            return Awaited.HEAD
        if cycle.response_complete:
            return Awaited.REST if self._idle_since is None else None
        return Awaited.BODY if cycle.more_body else None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; count and drop a trailer, which uvicorn would append to the headers."""
        if self._in_body:
            self._trailers += 1
            if self._trailers > self._limits.headers:
                self._fail(HeadTooLarge(self._limits.head_bytes, self._limits.headers, TRAILERS))
        elif len(self.headers) >= self._limits.headers:
            self._fail(HeadTooLarge(self._limits.head_bytes, self._limits.headers))
        else:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        limits = self._limits
        if self._head_bytes > limits.head_bytes and self._size() > limits.head_bytes:
            self._fail(HeadTooLarge(limits.head_bytes, limits.headers))
        if len(self.pipeline) >= PIPELINED:
            # A client may retry requests without a response: RFC 9112, section 9.3.2.
            self.transport.close()
            raise httptools.HttpParserError
        self._in_body, self._framing, self._trailers = True, 0, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        if not self.cycle.response_complete:
            try:
                self._bodies.take(len(body))
            except NoMemory as error:
                self._fail(error)
            scope: Any = self.scope
            scope[UNREAD] = scope.get(UNREAD, 0) + len(body)
        super().on_body(body)

    def on_chunk_header(self) -> None:
        self._framing -= CHUNK_FRAMING

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def _fail(self, error: GatewayError) -> NoReturn:
        """Stop the parser; ``send_400_response`` then sends the error."""
        self._refusal = error
        raise httptools.HttpParserError(str(error))

    def _size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _time(self, awaited: Awaited | None) -> None:
        """Start, restart or cancel the timer for the awaited part."""
        if self._timer is not None:
            if self._timed and awaited is self._timed[0] and self.scope is self._timed[1]:
                return
            self._timer.cancel()
            self._timer = None
        if awaited is not None:
            limits = self._limits
            seconds = limits.body_seconds if awaited is Awaited.BODY else limits.head_seconds
            self._timed = (awaited, self.scope)
            self._timer = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._timer = None
        awaited = self._awaited()
        if self.transport.is_closing() or awaited is None:
            return
        if awaited is Awaited.BODY and self.flow.read_paused:  # the gateway has paused reading
            self._time(awaited)
        elif self.scope is None or awaited is Awaited.REST:
            self.transport.close()  # no request waits for a response
        else:
            self._refuse(TooSlow(f"the {awaited.value} of the request did not arrive in time"))

    def _refuse(self, error: GatewayError) -> None:
        """Send an error and close; only close when a response has already started."""
        cycle = self.cycle
        started = (
            cycle is not None
            and cycle.response_started
            and (cycle.scope is self.scope or not cycle.response_complete)
        )
        if not started and not self.transport.is_closing():
            self._refused(error.status, error.limit)
            self.transport.write(_answer(error, getattr(self, "url", b"")))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Reject a request that the parser refuses."""
        self._refuse(self._refusal or BadRequest(msg))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return True to stay open: a half-closed client can still receive the response."""
        if self.cycle is None or self.cycle.response_complete or self._awaited() is not None:
            return False
        self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()

    def on_response_complete(self) -> None:
        """Finish a response without a new idle timer, unlike uvicorn.

        uvicorn creates and cancels a timer per request, a thirtieth of the request's cost. The
        unread part of the body is dropped; uvicorn holds it until the next request.
        """
        if self.cycle.response_complete:
            self.cycle.body = bytearray()
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self._limits.idle_seconds, self._check_idle)

    def _check_idle(self) -> None:
        """Abort a connection that was idle for too long, or check again later."""
        self._idle_timer = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self._limits.idle_seconds - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._check_idle)
        else:
            # close() would wait for a client that does not read the last response
            self.transport.abort()


def _answer(error: GatewayError, url: bytes) -> bytes:
    """Serialize a complete error response, for errors before the application runs."""
    request_id, path = new_id(), url.partition(b"?")[0].decode("ascii", "replace")
    status, headers, body = error_response(error, path, request_id)
    lines = [(b"x-request-id", request_id.encode()), (b"connection", b"close"), *headers]
    return b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % line for line in lines), b"\r\n", body])
