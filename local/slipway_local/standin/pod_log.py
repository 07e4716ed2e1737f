"""Log of a container, limited in size."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_SECONDS = 0.1
CHUNK = 2**20


class PodLog:
    """Output of one container over all restarts: the file, and its former part (``.1``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.former = path.with_name(path.name + ".1")

    def keep_below(self, limit: int) -> None:
        """Move the content to the former part once the file has ``limit`` bytes.

        It is copied and truncated, not renamed: the process continues to append to the file that it
        has open.
        """
        if self.size() < limit:
            return
        with self.path.open("r+b") as file, self.former.open("wb") as former:
            # Copy only the current content: with a process that writes faster than the copy, this
            # would not end.
            left = file.seek(0, 2)
            file.seek(0)
            while part := file.read(min(left, CHUNK)):
                former.write(part)
                left -= len(part)
            file.truncate(0)

    def lines(self) -> Iterator[str]:
        """Yield all stored lines."""
        for path in (self.former, self.path):
            if path.exists():
                with path.open(encoding="utf-8", errors="replace") as file:
                    for line in file:
                        yield line.rstrip("\n")

    def follow(self, over: Callable[[], bool]) -> Iterator[str]:
        """Yield all stored lines, then new ones, until ``over()`` is true."""
        if self.former.exists():
            yield from self.former.read_text(encoding="utf-8", errors="replace").splitlines()
        position, rest, last_round = 0, b"", False
        while True:
            position, content = self._read(position)
            *complete, rest = (rest + content).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in complete)
            if last_round:
                break
            # Read again after the end: the last lines may have been written between the read and
            # the check.
            last_round = over()
            if not last_round:
                time.sleep(POLL_SECONDS)
        if rest:
            yield rest.decode("utf-8", "replace")

    def _read(self, position: int) -> tuple[int, bytes]:
        if not self.path.exists():
            return position, b""
        content = b""
        if self.path.stat().st_size < position:
            with self.former.open("rb") as file:
                file.seek(position)
                content = file.read()
            position = 0
        with self.path.open("rb") as file:
            file.seek(position)
            content += file.read()
            return file.tell(), content

    def size(self) -> int:
        """Return the current size of the file in bytes, the position of the next output."""
        return self.path.stat().st_size if self.path.exists() else 0

    def tail(self, start: int, limit: int = 2048) -> str:
        """Return the last ``limit`` bytes written after position ``start``."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start if start <= size else 0, size - limit))
            return file.read().decode("utf-8", "replace").strip()
