"""Terminal output: one line per step, with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Screen:
    """Progress lines on standard output; none is overwritten, so that a log is readable."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line and flush it."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print one line to standard error."""
        print(f"  ! {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step of the start; print its name and the items of the yielded list."""
        start = time.monotonic()
        result: list[str] = []
        yield result
        self.say(f"  ✓ {name:<17} {' '.join(result):<56} {time.monotonic() - start:5.1f} s")

    @property
    def elapsed(self) -> float:
        """Seconds since the creation of the screen."""
        return time.monotonic() - self._start
