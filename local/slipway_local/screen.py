"""What the person at the terminal sees: one line per step, with its time."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Screen:
    """Progress lines on standard output; nothing is drawn over, so that a log of it reads the
    same.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        """One line, at once."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """One line to standard error."""
        print(f"  ! {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """A step of the start. What is put into the yielded list is shown behind its name when it
        is done.
        """
        begun = time.monotonic()
        result: list[str] = []
        yield result
        self.say(f"  ✓ {name:<17} {' '.join(result):<56} {time.monotonic() - begun:5.1f} s")

    @property
    def elapsed(self) -> float:
        """Seconds since the screen was made."""
        return time.monotonic() - self._begun
