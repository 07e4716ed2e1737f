"""Telling pickles apart. A pickle runs any code when it is loaded, so none gets near a predictor
unasked.
"""

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
    """Whether the file's name has a suffix that pickles have."""
    return any(suffix.lower() in PICKLE_SUFFIXES for suffix in PurePosixPath(path).suffixes)


def is_pickle(path: Path) -> bool:
    """Whether the content is a pickle: bare, compressed, or as a member of a zip archive, whatever
    the file is called.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if _binary(head) or any(_binary(inner) for inner in _decompressed(head)):
        return True
    if zipfile.is_zipfile(path):
        return _zip_holds_one(path)
    return path.stat().st_size <= _LARGEST_TEXT_PICKLE and _complete(path.read_bytes())


def _binary(head: bytes) -> bool:
    """Protocols 2 to 5 begin with PROTO and the number (pickletools: ``PROTO``, opcode 0x80)."""
    return len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5


def _complete(content: bytes) -> bool:
    """Protocols 0 and 1 have no mark at the front; they are pickles if they read as one, from the
    first opcode to STOP.

    Only those that import something count: "N.B." at the start of a text is a pickle too, of None.
    """
    try:
        opcodes = list(pickletools.genops(io.BytesIO(content)))  # all of them: the end counts, too
        return any(opcode.name in _IMPORTS for opcode, _, _ in opcodes)
    except Exception:  # what is no pickle, pickletools answers in many ways
        return False


def _decompressed(head: bytes) -> Iterable[bytes]:
    for decompress in _DECOMPRESSORS:
        try:
            yield decompress(head)
        except (zlib.error, OSError, lzma.LZMAError, EOFError):
            continue


def _zip_holds_one(path: Path) -> bool:
    """PyTorch and numpy archives hold pickles as members; a skops archive holds JSON and plain
    arrays.
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
        return False  # damaged or encrypted: no loader of ours opens it
    return False
