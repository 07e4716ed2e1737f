"""Keys of requests: UUID version 7 (RFC 9562), which sort by time and so keep the log's index compact."""

import os
import time

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_A = (1 << 12) - 1
_RANDOM_B = (1 << 62) - 1


def new_id() -> str:
    """48 bits of milliseconds, 74 random bits, in the usual hexadecimal form."""
    random = int.from_bytes(os.urandom(10), "big")
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | _VERSION | ((random >> 62 & _RANDOM_A) << 64) | _VARIANT | (random & _RANDOM_B)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
