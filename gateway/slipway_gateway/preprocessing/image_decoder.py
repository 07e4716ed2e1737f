"""Conversion of uploaded images to values of an input.

``slipway_gateway.preprocessing.image`` decodes them in a process that can be killed.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column, ImageSpec

from slipway_gateway.errors import ImageTooLarge, Unavailable, UnsupportedType

BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
"""First bytes of supported files. The media type in the request is ignored."""
KINDS = {b"\x89": "image/png", b"\xff": "image/jpeg", b"G": "image/gif"}
REFUSED = 3
PROCESSES = 2
"""Maximum number of concurrent processes; each uses up to one processor."""


def kind_of(content: bytes) -> str:
    """Return the media type of an accepted file."""
    return KINDS[content[:1]]


@dataclass(frozen=True)
class Bounds:
    """Limits: bytes and pixels per image, and seconds for all images of a request."""

    size: int
    pixels: int
    seconds: int


class ImageDecoder:
    """A decoder that starts a process per request.

    A start takes about 0.1 s; in return, no data of one caller's images is left for the next.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._free = asyncio.Semaphore(PROCESSES)

    async def values(self, column: Column, files: Sequence[bytes]) -> list[list[Any]]:
        """Return the input's values for each file, in the order of the input's shape.

        Raises ImageTooLarge, UnsupportedType, InvalidInput, and Unavailable when no process is
        free in time.
        """
        assert column.image is not None  # noqa: S101  (the caller found it)
        for content in files:
            self._check(content)
        try:
            await asyncio.wait_for(self._free.acquire(), self._bounds.seconds)
        except TimeoutError:
            raise Unavailable(
                "too many images are being read", retry_after=self._bounds.seconds
            ) from None
        try:
            pixels = await self._decoded(column, column.image, files)
        finally:
            self._free.release()
        return await asyncio.to_thread(_scaled, column, column.image, pixels, len(files))

    def _check(self, content: bytes) -> None:
        if len(content) > self._bounds.size:
            raise ImageTooLarge(self._bounds.size)
        if not content.startswith(BEGINNINGS):
            raise UnsupportedType("the image is not a PNG, JPEG or GIF file")

    async def _decoded(self, column: Column, image: ImageSpec, files: Sequence[bytes]) -> bytes:
        limits = (str(self._bounds.pixels), str(self._bounds.seconds))
        argv = (
            sys.executable,
            "-IB",
            "-m",
            "slipway_gateway.preprocessing.image",
            image.model_dump_json(),
            *limits,
        )
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, env={}
        )
        parts = b"".join(
            part for content in files for part in (len(content).to_bytes(4, "big"), content)
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(parts), self._bounds.seconds)
        except TimeoutError:
            raise InvalidInput(
                column.name, f"an image was not read within {self._bounds.seconds} s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == REFUSED:
            refusal = orjson.loads(output)
            raise InvalidInput(column.name, f"image {refusal['index']} {refusal['problem']}")
        if process.returncode != 0 or len(output) != len(files) * image.values:
            raise InvalidInput(column.name, "an image takes more memory or time than is allowed")
        return output


def _scaled(column: Column, image: ImageSpec, pixels: bytes, count: int) -> list[list[Any]]:
    """Scale bytes 0..255 to values of the input, in its layout; return one list per image."""
    tables = _tables(column, image)
    found = []
    for index in range(count):
        part = pixels[index * image.values : (index + 1) * image.values]
        planes = [
            list(map(table.__getitem__, part[channel :: len(tables)]))
            for channel, table in enumerate(tables)
        ]
        order = planes if image.layout == "CHW" else zip(*planes, strict=True)
        found.append(list(chain.from_iterable(order)))
    return found


def _tables(column: Column, image: ImageSpec) -> list[list[float]]:
    """Return a table of the 256 scaled values for each channel."""
    whole = round if column.datatype.is_integer else float
    step = (image.white - image.black) / 255
    means, deviations = (
        each if len(each) == image.channels else each * image.channels
        for each in (image.mean, image.deviation)
    )
    return [
        [whole((image.black + step * byte - mean) / deviation) for byte in range(256)]
        for mean, deviation in zip(means, deviations, strict=True)
    ]
