"""Waiting for a condition, with a deadline."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

SECONDS = 120.0
"""Default deadline of a condition. It ends a hang and measures no speed."""

T = TypeVar("T")


def wait_for(
    what: str, condition: Callable[[], T | Literal[False] | None], seconds: float = SECONDS
) -> T:
    """Return the first true value of ``condition``; fail after the deadline with the last value."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s; last seen: {seen!r}")
        time.sleep(0.02)
    return seen


def until(read: Callable[[], T], holds: Callable[[T], object], seconds: float = SECONDS) -> T:
    """Return the first value of ``read`` that fulfils the condition, as ``wait_for`` does."""
    deadline = time.monotonic() + seconds
    while not holds(seen := read()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s; last seen: {seen!r}")
        time.sleep(0.02)
    return seen


def avoid_midnight(seconds: float = 60) -> None:
    """Wait for the next day in UTC if the current one ends within ``seconds``."""

    def is_early() -> bool:
        now = datetime.now(UTC)
        return now.date() == (now + timedelta(seconds=seconds)).date()

    wait_for("the next day", is_early, 2 * seconds)
