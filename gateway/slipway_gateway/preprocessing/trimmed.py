"""Removal of metadata from an image file: bytes after its end, comments, and application blocks.

A file without metadata stays unchanged and keeps its digest. The functions get only files that
Pillow has decoded; of a truncated file they return the readable part.
"""

import re
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = frozenset(b"IHDR PLTE IDAT IEND tRNS gAMA cHRM sRGB sBIT pHYs bKGD tIME".split())
EXIF_LIMIT = 64 * 2**10
"""Maximum size in bytes of an Exif block, as in JPEG. The block has the camera's orientation."""
JPEG_END, JPEG_SCAN = 0xD9, 0xDA
JPEG_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
"""Markers without a length."""
JPEG_DROPPED = frozenset([*range(0xE1, 0xEE), 0xEF, 0xFE])
"""Application and comment segments, except APP0 (JFIF) and APP14 (Adobe), which define colours."""
SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker in compressed data that is not a stuffed byte, a restart or padding."""
GIF_END, GIF_EXTENSION, GIF_IMAGE = 0x3B, 0x21, 0x2C
GIF_CONTROL = 0xF9


def trimmed(content: bytes) -> bytes:
    """Return a PNG, JPEG or GIF file without metadata."""
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
        kind = content[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
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
    """Yield the parts of the first frame, the one that models get."""
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
    """Return the size of the colour table in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks_end(content: bytes, start: int) -> int:
    """Return the end of a sequence of sub-blocks; each starts with its length, the last is 0."""
    while start < len(content) and content[start]:
        start += 1 + content[start]
    return min(start + 1, len(content))
