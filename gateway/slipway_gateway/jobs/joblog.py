"""A Job's log as an asynchronous stream, read by a thread with a blocking client."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress

from slipway_gateway.errors import GatewayError, Unavailable

log = logging.getLogger(__name__)

FOLLOWERS = 32
"""Maximum number of concurrent streams; each uses a thread and a connection to the cluster."""
AHEAD = 1000
"""Maximum number of buffered lines for a slow caller."""


class LogReaders:
    """A bounded number of reader threads.

    They are daemon threads, so that a Job without output does not delay the process's exit.
    """

    def __init__(self, limit: int = FOLLOWERS) -> None:
        self._free = threading.Semaphore(limit)

    async def stream(self, lines: Iterator[str]) -> AsyncGenerator[bytes, None]:
        """Return a stream of UTF-8 lines.

        Raises Unavailable immediately when all readers are busy, and the errors of the first line.
        """
        if not self._free.acquire(blocking=False):
            raise Unavailable("too many logs are being followed", retry_after=10)
        reader = _Reader(lines, asyncio.get_running_loop(), self._free)
        threading.Thread(target=reader.run, name="log reader", daemon=True).start()
        first = await reader.next()
        return _rest(reader, first)


async def _rest(reader: "_Reader", line: bytes | None) -> AsyncGenerator[bytes, None]:
    try:
        while line is not None:
            yield line
            line = await reader.next()
    except GatewayError as error:  # the status was sent, so the error becomes the last log line
        yield f"\n{error}\n".encode()
    finally:
        reader.closed = True


class _Reader:
    def __init__(
        self, lines: Iterator[str], loop: asyncio.AbstractEventLoop, free: threading.Semaphore
    ) -> None:
        self._lines = lines
        self._loop = loop
        self._free = free
        self._read: asyncio.Queue[bytes | GatewayError | None] = asyncio.Queue(AHEAD)
        self.closed = False
        """True when the caller has disconnected."""

    async def next(self) -> bytes | None:
        found = await self._read.get()
        if isinstance(found, GatewayError):
            raise found
        return found

    def run(self) -> None:
        """Read all lines in the thread; stop at the next line after a disconnect."""
        end: GatewayError | None = None
        try:
            for line in self._lines:
                if self.closed:
                    return
                self._put(line.encode() + b"\n")
        except GatewayError as error:
            end = error
        except Exception:  # the thread's edge: without an end the caller would wait indefinitely
            log.exception("a Job's log cannot be read")
            end = Unavailable("the log cannot be read")
        finally:
            self._free.release()
            self._put(end)

    def _put(self, found: bytes | GatewayError | None) -> None:
        """Wait until the queue has a free place or the caller has disconnected."""
        if self._loop.is_closed():  # the process ends
            return
        put = asyncio.run_coroutine_threadsafe(self._read.put(found), self._loop)
        while not put.done() and not self.closed and not self._loop.is_closed():
            with suppress(TimeoutError):
                put.result(1.0)
        put.cancel()
