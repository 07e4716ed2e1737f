"""PostgreSQL that does not respond: its network is cut, or its processes are stopped.

Neither closes a connection.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Self
from urllib.parse import parse_qs, urlsplit

import psutil  # type: ignore[import-untyped]

from tests.support.waiting import SECONDS

PIECE = 2**16


class Network:
    """A TCP port in front of a server on a Unix socket, whose traffic can be cut."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._user, self._path = parts.username, parts.path
        self._cuts = 0
        self._is_cut = False
        self._port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(SECONDS), "the port was not opened"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(SECONDS)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._over.wait()
        server.close()
        # The last accepted connection starts its task while the others end; each closes its socket.
        while running := asyncio.all_tasks() - {asyncio.current_task()}:
            for each in running:
                each.cancel()
            await asyncio.wait(running)

    @property
    def url(self) -> str:
        """URL of the database behind this port."""
        return f"postgresql://{self._user}@127.0.0.1:{self._port}{self._path}"

    def cut(self) -> None:
        """Cut the network; open connections stay silent even after ``mend``."""
        self._cuts += 1
        self._is_cut = True

    def mend(self) -> None:
        """Let new connections pass again."""
        self._is_cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_cut:
                await self._swallow(reader)
            else:
                await self._relay(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cuts = self._cuts
        upstream, downstream = await asyncio.open_unix_connection(self._socket)
        try:
            ways = [
                asyncio.create_task(self._pass_on(*way, cuts))
                for way in ((reader, downstream), (upstream, writer))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        finally:
            downstream.transport.abort()
        if cuts != self._cuts:  # the end of a connection does not pass a cut, either
            await self._swallow(reader)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, cuts: int
    ) -> None:
        while data := await source.read(PIECE):
            if cuts == self._cuts:
                sink.write(data)
                await sink.drain()

    @staticmethod
    async def _swallow(reader: asyncio.StreamReader) -> None:
        while await reader.read(PIECE):
            pass


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop the process and its children, like a node that hangs; resume them at the end."""
    family = [pid, *(child.pid for child in psutil.Process(pid).children())]
    _send(signal.SIGSTOP, family)
    try:
        yield
    finally:
        _send(signal.SIGCONT, family)


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to each process that still runs."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
