"""An image's file without what no image is made from: bytes after its end, comments, and blocks
of other programs.

A file that has none of them stays as it is, so that its digest is the sender's. Only what Pillow
has read comes here; a file that ends early is kept up to where it can be followed.
"""

import re
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = frozenset(
    [
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"sBIT",
        b"pHYs",
        b"bKGD",
        b"tIME",
    ]
)
EXIF_LIMIT = 64 * 2**10
"""Bytes of an Exif block, which says how the camera was held: no more fit into a segment of
JPEG.
"""
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
JPEG_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
"""Markers without a length."""
JPEG_DROPPED = frozenset([*range(0xE1, 0xEE), 0xEF, 0xFE])
"""Segments of applications and comments, but for APP0 (JFIF) and APP14 (Adobe), which say what the
colours are.
"""
SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker inside compressed data: neither a stuffed byte, a restart nor padding."""
GIF_END, GIF_EXTENSION, GIF_IMAGE = 0x3B, 0x21, 0x2C
GIF_CONTROL = 0xF9


def trimmed(content: bytes) -> bytes:
    """The file of a PNG, JPEG or GIF image, cut to what shows it."""
    if content.startswith(PNG):
        parts = _png(content)
    elif content.startswith(b"\xff\xd8"):
        parts = _jpeg(content)
    else:
        parts = _gif(content)
    return b"".join(parts)


def _png(content: bytes) -> Iterator[bytes]:
    yield PNG
    start, has_exif = len(PNG), False
    while start + 12 <= len(content):
        kind, end = (
            content[start + 4 : start + 8],
            start + 12 + int.from_bytes(content[start : start + 4], "big"),
        )
        is_exif = kind == b"eXIf" and not has_exif and end - start <= EXIF_LIMIT
        has_exif |= is_exif
        small = kind in (b"IDAT", b"IEND") or end - start <= EXIF_LIMIT
        if is_exif or (kind in PNG_CHUNKS and small):
            yield content[start:end]
        if kind == b"IEND":
            return
        start = end


def _jpeg(content: bytes) -> Iterator[bytes]:
    yield content[:2]
    start, has_exif = 2, False
    while start + 2 <= len(content) and content[start] == 0xFF:
        marker = content[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        if marker == JPEG_END:
            yield content[start : start + 2]
            return
        if marker in JPEG_ALONE:
            yield content[start : start + 2]
            start += 2
            continue
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        is_exif = marker == 0xE1 and not has_exif and content[start + 4 : start + 10] == b"Exif\0\0"
        has_exif |= is_exif
        if marker == JPEG_SCAN:
            found = SCAN_END.search(content, end)
            end = found.start() if found else len(content)
        if is_exif or marker not in JPEG_DROPPED:
            yield content[start:end]
        start = end


def _gif(content: bytes) -> Iterator[bytes]:
    """The first frame alone: it is the one that models are given."""
    start = 13 + _palette(content[10])
    yield content[:start]
    while start < len(content) and content[start] != GIF_END:
        if content[start] == GIF_EXTENSION:
            end = _blocks_end(content, start + 2)
            if content[start + 1 : start + 2] == bytes([GIF_CONTROL]) and end - start <= 16:
                yield content[start:end]
        elif content[start] == GIF_IMAGE and start + 10 <= len(content):
            yield content[start : _blocks_end(content, start + 11 + _palette(content[start + 9]))]
            break
        else:
            break
        start = end
    yield bytes([GIF_END])


def _palette(flags: int) -> int:
    """Bytes of the colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(content: bytes, start: int) -> int:
    """Where a row of sub-blocks ends: each begins with its length, the last one is empty."""
    while start < len(content) and content[start]:
        start += 1 + content[start]
    return min(start + 1, len(content))
