"""A Job's log as a stream: lines come from a blocking reader in a thread, and leave as text."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress

from slipway_gateway.errors import GatewayError, Unavailable

log = logging.getLogger(__name__)

FOLLOWERS = 32
"""Logs that are read at once; each holds a thread and a connection to the cluster."""
AHEAD = 1000
"""Lines that are read before a slow caller has taken them."""


class LogReaders:
    """The threads that read, bounded. A daemon thread each: a silent Job must not keep the process
    from ending.
    """

    def __init__(self, limit: int = FOLLOWERS) -> None:
        self._free = threading.Semaphore(limit)

    async def stream(self, lines: Iterator[str]) -> AsyncGenerator[bytes, None]:
        """UTF-8 text, a line each. Raises Unavailable at once when too many read, and what the
        first line raises.
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
    except GatewayError as error:  # in the middle of an answer nothing else can be said
        yield f"\n{error}\n".encode()
    finally:
        reader.left = True


class _Reader:
    def __init__(
        self, lines: Iterator[str], loop: asyncio.AbstractEventLoop, free: threading.Semaphore
    ) -> None:
        self._lines = lines
        self._loop = loop
        self._free = free
        self._read: asyncio.Queue[bytes | GatewayError | None] = asyncio.Queue(AHEAD)
        self.left = False
        """Nobody listens any more."""

    async def next(self) -> bytes | None:
        found = await self._read.get()
        if isinstance(found, GatewayError):
            raise found
        return found

    def run(self) -> None:
        """The thread. A caller that has left is noticed at the next line."""
        end: GatewayError | None = None
        try:
            for line in self._lines:
                if self.left:
                    return
                self._put(line.encode() + b"\n")
        except GatewayError as error:
            end = error
        except Exception:  # the thread's edge: without an end the caller would wait for ever
            log.exception("a log could not be read")
            end = Unavailable("the log cannot be read")
        finally:
            self._free.release()
            self._put(end)

    def _put(self, found: bytes | GatewayError | None) -> None:
        """Wait until there is room, as long as somebody listens."""
        if self._loop.is_closed():  # the process ends
            return
        put = asyncio.run_coroutine_threadsafe(self._read.put(found), self._loop)
        while not put.done() and not self.left and not self._loop.is_closed():
            with suppress(TimeoutError):
                put.result(1.0)
        put.cancel()
