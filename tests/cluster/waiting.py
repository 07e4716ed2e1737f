"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], holds: Callable[[T], object], seconds: float = 30) -> T:
    """Look until it holds, and give what was seen; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen):
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen}"
        time.sleep(0.05)
