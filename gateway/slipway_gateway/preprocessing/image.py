"""A program that decodes images to pixels in a process with resource limits; it uses Pillow.

``python -m slipway_gateway.preprocessing.image SPEC PIXELS SECONDS`` reads from its standard input,
for each image, its length (4 bytes, big endian) and its bytes, and writes ``height × width ×
channels`` bytes for each. With exit status 3 the output is JSON with the ``index`` of a rejected
image and the ``problem``. The process ends after the request, and all image data with it.
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
"""Address space in bytes: 40 million pixels of four bytes, a converted copy, and Python."""
REFUSED = 3
LENGTH = struct.Struct(">I")
DETAIL = 16
"""Integer factors reduce an image first, to at least this many times the target size."""
INK = 64
"""Minimum difference between a pixel and the ground, of 255."""
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Filters by the signature's name; all are wider when an image is reduced. With box, each target
value is the mean of its source pixels."""


class Refusal(Exception):
    """The image is rejected; ``str()`` is the reason."""


def bound(seconds: int) -> None:
    """Limit memory and processor time, forbid files, and set the highest OOM score."""
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
    """Return the pixels as (height, width, channels) in row-major order. Raises Refusal.

    ``most`` is the maximum number of pixels in the file.
    """
    try:
        image = _normal(_opened(content, spec, most), spec)
        return _fitted(_on_ground(image, spec), spec).tobytes()
    except MemoryError:
        raise Refusal("takes too much memory") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # Pillow's for invalid files
        raise Refusal(f"cannot be read: {error}") from None


def _opened(content: bytes, spec: ImageSpec, most: int) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF"))
    if image.width * image.height > most:
        raise Refusal(f"has {image.width} × {image.height} pixels; {most} are allowed")
    image.draft(spec.mode, (spec.width * DETAIL, spec.height * DETAIL))
    image.load()
    return image


def _normal(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """Convert to the target mode; reduce, rotate by Exif, and put transparency on white."""
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
    """Invert an image whose border is nearer to the other ground, and crop it to its content."""
    if spec.ground is None:
        return image
    ground = 0 if spec.ground == "black" else 255
    grey = image.convert("L")
    if abs(_border(grey) - ground) > 127:
        image, grey = ImageOps.invert(image), ImageOps.invert(grey)
    ink = grey.point([255 * (abs(value - ground) >= INK) for value in range(256)])
    return image.crop(ink.getbbox()) if spec.trim and ink.getbbox() else image


def _border(grey: Image.Image) -> float:
    """Return the mean of the outermost pixels, 0..255."""
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
    size, scaling = (spec.width, spec.height), FILTERS[spec.resampling]
    if spec.fit == "contain":
        return ImageOps.pad(image, size, scaling, color=spec.ground or "black")
    if spec.crop < 1:
        # The argument ``box`` of ``resize`` would mix in pixels beside the box.
        return image.crop(_central(image, spec)).resize(size, scaling)
    if spec.fit == "cover":
        return ImageOps.fit(image, size, scaling)
    return image.resize(size, scaling)


def _central(image: Image.Image, spec: ImageSpec) -> tuple[int, int, int, int]:
    """Return the box of whole pixels around the centre that has the target's proportions."""
    scale = spec.crop * min(image.width / spec.width, image.height / spec.height)
    width, height = max(1, int(scale * spec.width)), max(1, int(scale * spec.height))
    left, top = (image.width - width + 1) // 2, (image.height - height + 1) // 2
    return left, top, left + width, top + height


def _images(source: BinaryIO) -> Iterator[bytes]:
    while head := source.read(LENGTH.size):
        yield source.read(LENGTH.unpack(head)[0])


def main() -> int:
    """Run the decoder and return the exit status."""
    spec = ImageSpec.model_validate_json(sys.argv[1])
    most, seconds = int(sys.argv[2]), int(sys.argv[3])
    bound(seconds)
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # _opened checks the size before it decodes
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
