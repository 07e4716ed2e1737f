"""The door to Pillow: a program that reads images and writes their pixels, in a process with
bounds of its own.

``python -m slipway_gateway.preprocessing.image SPEC PIXELS SECONDS`` takes on its standard input,
for each image, its length (4 bytes, big endian) and its bytes, and gives ``height × width ×
channels`` bytes for each. With exit status 3 its output is JSON instead: the ``index`` of the
image that it does not take, and the ``problem``. Nothing of an image outlives the process.
"""

import io
import json
import resource
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from PIL import Image, ImageOps
from slipway_contract.signature import ImageSpec

MEMORY = 768 * 2**20
"""Bytes of address space: 40 million pixels of four bytes, once more for their conversion, and
Python.
"""
REFUSED = 3
LENGTH = struct.Struct(">I")
DETAIL = 16
"""An image is first made smaller in whole steps, to no less than this many times the
wanted size.
"""
INK = 64
"""Of 255: how far from the ground a pixel is that is not ground."""
SCALING = Image.Resampling.BOX
"""Each value is the mean of the pixels that it stands for."""


class Refusal(Exception):
    """The image is not taken; ``str()`` says why."""


def bound(seconds: int) -> None:
    """Memory, processor time, no files; and the first to go when the pod runs out of memory."""
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123
        score.write("1000")


def pixels(content: bytes, spec: ImageSpec, most: int) -> bytes:
    """Row by row from the top left. Raises Refusal."""
    try:
        image = _normal(_opened(content, spec, most), spec)
        return _fitted(_on_ground(image, spec), spec).tobytes()
    except MemoryError:
        raise Refusal("takes too much memory") from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
    ) as error:  # what Pillow raises of files that are broken
        raise Refusal(f"cannot be read: {error}") from None


def _opened(content: bytes, spec: ImageSpec, most: int) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF"))
    if image.width * image.height > most:
        raise Refusal(f"has {image.width} × {image.height} pixels; {most} are allowed")
    image.draft(spec.mode, (spec.width * DETAIL, spec.height * DETAIL))
    image.load()
    return image


def _normal(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Of the wanted mode, upright, on white paper where it is transparent, and no larger than is of
    use.
    """
    if image.mode.startswith("I"):  # 16 bits
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode in ("P", "PA", "LA", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    step = min(image.width // (spec.width * DETAIL), image.height // (spec.height * DETAIL))
    if step > 1:
        image = image.reduce(step)
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(spec.mode)


def _on_ground(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Inverted where its border is nearer to the other ground, and cut to what is on it."""
    if spec.ground is None:
        return image
    ground = 0 if spec.ground == "black" else 255
    grey = image.convert("L")
    if abs(_border(grey) - ground) > 127:
        image, grey = ImageOps.invert(image), ImageOps.invert(grey)
    ink = grey.point([255 * (abs(value - ground) >= INK) for value in range(256)])
    return image.crop(ink.getbbox()) if spec.trim and ink.getbbox() else image


def _border(grey: Image.Image) -> float:
    """The mean of the outermost pixels, 0..255."""
    width, height = grey.size
    edges = (
        (0, 0, width, 1),
        (0, height - 1, width, height),
        (0, 0, 1, height),
        (width - 1, 0, width, height),
    )
    values = b"".join(grey.crop(edge).tobytes() for edge in edges)
    return sum(values) / len(values)


def _fitted(image: Image.Image, spec: ImageSpec) -> Image.Image:
    size = (spec.width, spec.height)
    if spec.fit == "contain":
        return ImageOps.pad(image, size, SCALING, color=spec.ground or "black")
    if spec.fit == "cover":
        return ImageOps.fit(image, size, SCALING)
    return image.resize(size, SCALING)


def _images(source: BinaryIO) -> Iterator[bytes]:
    while head := source.read(LENGTH.size):
        yield source.read(LENGTH.unpack(head)[0])


def main() -> int:
    """Exit status."""
    spec, most, seconds = (
        ImageSpec.model_validate_json(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
    )
    bound(seconds)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # counted here, before anything is unpacked
    found = []
    for index, content in enumerate(_images(sys.stdin.buffer)):
        try:
            found.append(pixels(content, spec, most))
        except Refusal as refusal:
            sys.stdout.write(json.dumps({"index": index, "problem": str(refusal)}))
            return REFUSED
    sys.stdout.buffer.write(b"".join(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
