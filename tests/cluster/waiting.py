"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(read: Callable[[], T], holds: Callable[[T], object], seconds: float = 30) -> T:
    """Return the first value that fulfils the condition; fail with the last value."""
    deadline = time.monotonic() + seconds
    while True:
        seen = read()
        if holds(seen):
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen}"
        time.sleep(0.05)
