"""Request ids: UUID version 7 (RFC 9562), whose order by time keeps the log's index compact."""

import random
import re
import time

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_MILLISECOND = 1_000_000
"""Nanoseconds of a millisecond."""

PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """Return a new UUID version 7 in canonical form.

    It has 48 bits of milliseconds, 12 bits of their fraction (RFC 9562, section 6.2, method 3) and
    62 random bits.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), _MILLISECOND)
    fraction = (nanoseconds << 12) // _MILLISECOND
    # Ids are unique, not secret: access to a receipt depends on its owner.
    chance = random.getrandbits(62)
    text = f"{milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | chance:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
