"""Detection of pickles. Loading a pickle can run any code, so a predictor loads none by default."""

import bz2
import io
import lzma
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from slipway_contract.registry import PICKLE_SUFFIXES

_HEAD = 2**16
_LARGEST_TEXT_PICKLE = 2**24
_IMPORTS = frozenset(
    {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
)

# The compressors that joblib.dump and gzip users wrap pickles in.
_DECOMPRESSORS: tuple[Callable[[bytes], bytes], ...] = (
    lambda head: zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(head, _HEAD),
    lambda head: bz2.BZ2Decompressor().decompress(head, _HEAD),
    lambda head: lzma.LZMADecompressor().decompress(head, _HEAD),
)


def named_like_a_pickle(path: str) -> bool:
    """Return True when the file's name has a suffix of pickles."""
    return any(suffix.lower() in PICKLE_SUFFIXES for suffix in PurePosixPath(path).suffixes)


def is_pickle(path: Path) -> bool:
    """Return True when the content is a pickle, whatever the file's name is.

    It may be bare, compressed, or a member of a zip archive.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if _binary(head) or any(_binary(inner) for inner in _decompressed(head)):
        return True
    if zipfile.is_zipfile(path):
        return _zip_holds_one(path)
    return path.stat().st_size <= _LARGEST_TEXT_PICKLE and _complete(path.read_bytes())


def _binary(head: bytes) -> bool:
    """Return True for the start of protocols 2 to 5: PROTO (pickletools: 0x80) and the number."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def _complete(content: bytes) -> bool:
    """Return True for a pickle of protocol 0 or 1: one that parses from the first opcode to STOP.

    These protocols have no magic number. Only a pickle that imports something counts: "N.B." at the
    start of a text is a pickle of None, too.
    """
    try:
        opcodes = list(pickletools.genops(io.BytesIO(content)))  # parse all of them, up to STOP
        return any(opcode.name in _IMPORTS for opcode, _, _ in opcodes)
    except Exception:  # pickletools raises many types for other content
        return False


def _decompressed(head: bytes) -> Iterable[bytes]:
    for decompress in _DECOMPRESSORS:
        try:
            yield decompress(head)
        except (zlib.error, OSError, lzma.LZMAError, EOFError):
            continue


def _zip_holds_one(path: Path) -> bool:
    """Return True when a zip archive has a pickle as a member.

    PyTorch and numpy archives have; a skops archive has JSON and plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if PurePosixPath(member.filename).suffix in PICKLE_SUFFIXES - {".npy"}:
                    return True
                with archive.open(member) as file:
                    if _binary(file.read(2)):
                        return True
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, zlib.error):
        return False  # damaged or encrypted: no loader opens it
    return False
