"""Exports from PostgreSQL, streamed by a separate process in constant memory."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator

from slipway_contract.postgresql import client_seconds, libpq_environment

from slipway_gateway.errors import Unavailable, UpstreamAborted
from slipway_gateway.postgresql.connection import EXPORT_STATEMENT_SECONDS

PIECE = 2**16
SILENCE_SECONDS = client_seconds(EXPORT_STATEMENT_SECONDS)
PROCESSES = 2
"""Maximum number of concurrent processes; each needs about 100 MiB."""


class Exports:
    """A limited number of export processes that read the database at ``url``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free = asyncio.Semaphore(PROCESSES)

    async def begin(self, program: str, *arguments: str) -> AsyncIterator[bytes]:
        """Start ``python -m PROGRAM`` and return its output after the first piece has arrived.

        Raises Unavailable.
        """
        if self._free.locked():
            raise Unavailable(f"{PROCESSES} exports are running; retry later", retry_after=30)
        pieces = self._pieces(program, *arguments)
        return _all(await anext(pieces, b""), pieces)

    async def _pieces(self, program: str, *arguments: str) -> AsyncGenerator[bytes]:
        """Yield the output of the process with backpressure. Raises Unavailable."""
        async with self._free:
            argv = (sys.executable, "-IB", "-m", program, *arguments)
            env = libpq_environment(os.environ) | {"SLIPWAY_DATABASE_URL": self._url}
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, limit=PIECE, env=env
            )
            assert process.stdout is not None  # noqa: S101  (PIPE is requested above)
            try:
                while piece := await asyncio.wait_for(process.stdout.read(PIECE), SILENCE_SECONDS):
                    yield piece
                if await process.wait():
                    raise Unavailable("the export failed; the log of the gateway has the error")
            except TimeoutError:
                raise Unavailable(
                    f"the export failed: PostgreSQL sent no data for {SILENCE_SECONDS:g} s"
                ) from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _all(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    try:
        async for piece in pieces:
            yield piece
    except Unavailable as error:  # the status has been sent; only an incomplete body is left
        raise UpstreamAborted(str(error)) from error
