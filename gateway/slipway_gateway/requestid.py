"""Keys of requests: UUID version 7 (RFC 9562), which sort by time and so keep the log's index
compact.
"""

import random
import re
import time

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_MILLISECOND = 1_000_000
"""In nanoseconds."""

PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_id() -> str:
    """48 bits of milliseconds, 12 bits of their fraction (section 6.2, method 3), 62 random bits;
    in the usual form.
    """
    milliseconds, nanoseconds = divmod(time.time_ns(), _MILLISECOND)
    fraction = (nanoseconds << 12) // _MILLISECOND
    # Unique, not secret: a receipt is given to its owner, not to who knows its key.
    chance = random.getrandbits(62)
    text = f"{milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | chance:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
