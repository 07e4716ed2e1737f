"""Events on disk between an answer and PostgreSQL: append-only segment files of one JSON line per
event.

A line is handed to the kernel by a single write before its answer is sent, so it outlives a killed
process (not a power cut: there is no fsync per request). A segment belongs to who holds its lock;
the lock of a dead process is free, so its segments are found by the next one.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from slipway_gateway.errors import Unavailable
from slipway_gateway.requestid import new_id

log = logging.getLogger(__name__)

SUFFIX = ".jsonl"
BATCH = 2**20
"""Bytes of lines that are shipped at once: some sixteen of 1,024 rows, or 1,700 of one."""
SEGMENT = 2**24
"""Bytes after which a segment is closed: its room is free again as soon as it is shipped, while the
next ones still wait.
"""


class Segment:
    """A file that nobody writes any more, locked by us while we ship it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @classmethod
    def claim(cls, path: Path) -> "Segment | None":
        """None when a living process holds it, or when it is gone."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not path.exists():  # shipped and deleted by another between our open and our lock
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def batches(self) -> Iterator[list[bytes]]:
        """Complete lines in pieces of about ``BATCH`` bytes. A torn last line was never answered
        and is left out.
        """
        rest = b""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            while chunk := file.read(BATCH):
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield lines
        if rest:
            log.warning(
                "%s ends in a torn line of %d bytes; its answer was never sent",
                self.path.name,
                len(rest),
            )

    def release(self) -> None:
        os.close(self._descriptor)


class Spool:
    """The folder of segments, and the one that this process writes."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.limit = limit
        self.size = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))
        """Bytes that wait, those of earlier processes included."""
        self.unreadable: set[Path] = set()
        """Segments that could not be read when they were to be shipped."""
        self._written = 0
        self._path, self._descriptor = self._open()

    def _open(self) -> tuple[Path, int]:
        path = self.folder / f"{new_id()}{SUFFIX}"
        # Locked before it has its name: nobody can take it for a dead process's.
        nameless = path.with_suffix(".new")
        descriptor = os.open(
            nameless, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        nameless.rename(path)
        return path, descriptor

    def check(self) -> None:
        """Raise Unavailable when there is no room: an answer that cannot be logged is not given."""
        if self.size >= self.limit:
            raise Unavailable(
                "the event log is full until its database has caught up", retry_after=30
            )

    def append(self, line: bytes) -> None:
        """Write one line, newline included. When this returns the line is safe from a kill. Raises
        Unavailable.
        """
        try:
            if self._written >= SEGMENT:
                self.rotate()
            written = os.write(self._descriptor, line)
        except OSError as error:
            log.exception("the event log cannot be written")
            raise Unavailable("the event log cannot be written") from error
        if written != len(
            line
        ):  # the disk is full: take back the piece, which would tear the next line
            os.ftruncate(self._descriptor, self._written)
            raise Unavailable("the event log's disk is full", retry_after=30)
        self._written += written
        self.size += written

    def rotate(self) -> None:
        """Begin a new segment, so that what was written so far can be shipped."""
        if self._written:
            old = self._descriptor
            self._path, self._descriptor = self._open()
            self._written = 0
            os.close(old)

    def claim(self) -> Iterator[Segment]:
        """Closed segments, oldest first, each locked until it is dropped or released; one that
        cannot be opened is left out.
        """
        self.unreadable = {path for path in self.unreadable if path.exists()}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                segment = Segment.claim(path) if path != self._path else None
            except OSError as error:
                self.leave(path, error)
                continue
            if segment:
                try:
                    yield segment
                finally:
                    segment.release()

    def leave(self, path: Path, error: OSError) -> None:
        """Leave a segment that cannot be read where it is, so that the others are shipped."""
        if path not in self.unreadable:
            log.error(
                "segment %s of the event log cannot be read, its events wait: %s", path, error
            )
        self.unreadable.add(path)

    def drop(self, segment: Segment) -> None:
        """Delete what is in the database now."""
        segment.path.unlink()
        self.unreadable.discard(segment.path)
        self.size = max(
            0, self.size - segment.size
        )  # it may be of a process that died after we counted

    def set_aside(self, segment: Segment, line: bytes) -> None:
        """Keep a line that the database refuses, out of the way of the others."""
        with segment.path.with_suffix(".rejected").open("ab") as file:
            file.write(line + b"\n")

    def close(self) -> None:
        """Let go of the current segment; an empty one is deleted."""
        os.close(self._descriptor)
        if not self._written:
            self._path.unlink(missing_ok=True)
