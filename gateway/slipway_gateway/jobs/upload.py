"""Upload of a file: streamed to disk, its format detected and its rows counted."""

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from slipway_contract.errors import InvalidInput, MalformedRequest

from slipway_gateway.errors import TooLarge, Unavailable, UnsupportedType

PARQUET = b"PAR1"
FIELD = b"file"
OVERHEAD = 64 * 2**10
"""Maximum size in bytes of the rest of a multipart body."""
SECONDS = 30
"""Timeout for counting a file's rows, and for the wait before it."""
PROCESSES = 2


@dataclass(frozen=True)
class Upload:
    """A complete file, which is deleted at the end of its block."""

    path: Path
    size: int
    sha256: str
    format: str
    """``csv`` or ``parquet``."""


class RowCounter:
    """A counter of rows in up to ``PROCESSES`` concurrent processes with resource limits."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(PROCESSES)

    async def count(self, upload: Upload) -> int:
        """Return the number of rows of a file.

        Raises InvalidInput, and Unavailable when no process is free in time.
        """
        try:
            await asyncio.wait_for(self._free.acquire(), SECONDS)
        except TimeoutError:
            raise Unavailable(
                "too many files are being counted; try again later", retry_after=SECONDS
            ) from None
        try:
            return await _counted(upload)
        finally:
            self._free.release()


async def _counted(upload: Upload) -> int:
    argv = (
        sys.executable,
        "-IB",
        "-m",
        "slipway_gateway.jobs.rowcount",
        upload.format,
        str(SECONDS),
    )
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    with upload.path.open("rb") as file:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=file, stdout=pipe, stderr=null, env={}
        )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        raise InvalidInput(
            "file", f"its rows were not counted within {SECONDS} s; send a smaller file"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise InvalidInput(
            "file",
            "its rows cannot be counted with the allowed memory and time; send a smaller file",
        )
    return int(output)


class _Sink:
    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit
        self.digest = hashlib.sha256()
        self.size = 0
        self.head = b""
        self.has_nul = False

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            raise TooLarge(self._limit)
        self.head = self.head or piece[: len(PARQUET)]
        self.has_nul |= b"\0" in piece
        self.digest.update(piece)
        self._file.write(piece)


@asynccontextmanager
async def received(
    pieces: AsyncIterator[bytes], content_type: str, limit: int
) -> AsyncIterator[Upload]:
    """Store the field ``file`` of a multipart body, or the whole body of another content type.

    Raises TooLarge, UnsupportedType, MalformedRequest, InvalidInput, and the errors of ``pieces``.
    """
    with tempfile.NamedTemporaryFile(prefix="batch-") as file:
        sink = _Sink(file, limit)
        kind, options = parse_options_header(content_type)
        form = (
            _Form(sink, options.get(b"boundary", b"")) if kind == b"multipart/form-data" else None
        )
        take = form.feed if form else sink.write
        total = 0
        async for piece in pieces:
            total += len(piece)
            if total > limit + OVERHEAD:
                raise TooLarge(limit)
            if piece:
                await to_thread.run_sync(take, piece)
        if form:
            form.end()
        await to_thread.run_sync(file.flush)
        yield Upload(Path(file.name), sink.size, sink.digest.hexdigest(), _format(sink))


def _format(sink: _Sink) -> str:
    if sink.size == 0:
        raise InvalidInput("file", "is empty")
    if sink.head.startswith(PARQUET):
        return "parquet"
    if sink.has_nul:
        raise UnsupportedType("the file is neither Parquet nor CSV; save it as CSV in UTF-8")
    return "csv"


class _Form:
    """A parser of a multipart/form-data body that stores the field ``file``."""

    def __init__(self, sink: _Sink, boundary: bytes) -> None:
        if not boundary:
            raise MalformedRequest(
                "the multipart body has no boundary; let the client set Content-Type itself"
            )
        self._sink = sink
        self._header = [b"", b""]
        self._wanted = self._found = self._complete = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._add(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, piece: bytes) -> None:
        """Parse a chunk. Raises MalformedRequest, TooLarge."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise MalformedRequest(f"the body is not multipart/form-data: {error}") from None

    def end(self) -> None:
        """Check that the body is complete. Raises MalformedRequest, InvalidInput."""
        if not self._complete:
            raise MalformedRequest("the multipart body ends before its last boundary")
        if not self._found:
            raise InvalidInput(
                "file", "is missing from the form; send the file in a field of this name"
            )

    def _begin(self) -> None:
        self._wanted = False

    def _add(self, which: int, piece: bytes) -> None:
        self._header[which] += piece

    def _header_end(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if (
            name.lower() != b"content-disposition"
            or parse_options_header(value)[1].get(b"name") != FIELD
        ):
            return
        if self._found:
            raise InvalidInput("file", "is given twice; send one file")
        self._wanted = self._found = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._sink.write(data[start:end])

    def _end(self) -> None:
        self._complete = True
