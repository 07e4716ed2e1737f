"""The on-disk queue of events for PostgreSQL: append-only segment files, one JSON line per event.

A single write passes a line to the kernel before the response is sent, so that the line survives a
kill of the process. It does not survive a power failure, because there is no fsync per request. A
segment belongs to the process that holds its lock; the kernel releases the lock of a dead process,
so that the next process can claim its segments.
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
"""Bytes per shipped batch: about 16 events of 1,024 rows or 1,700 events of one row."""
SEGMENT = 2**24
"""Size in bytes at which a segment is closed; shipping a segment frees its disk space."""


class Segment:
    """A closed segment file, locked by this process while it is shipped."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    @classmethod
    def claim(cls, path: Path) -> "Segment | None":
        """Lock a segment; return None when another process holds it or it no longer exists."""
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
        """Yield complete lines in batches of about ``BATCH`` bytes.

        A torn last line is skipped; its response was never sent.
        """
        rest = b""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            while chunk := file.read(BATCH):
                *lines, rest = (rest + chunk).split(b"\n")
                if lines:
                    yield lines
        if rest:
            log.warning(
                "%s ends in a torn line of %d bytes; its response was never sent",
                self.path.name,
                len(rest),
            )

    def release(self) -> None:
        os.close(self._descriptor)


class Spool:
    """The folder of segments, and the current segment of this process."""

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.limit = limit
        self.size = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))
        """Bytes to ship, including segments of earlier processes."""
        self.unreadable: set[Path] = set()
        """Segments that could not be read for shipping."""
        self._written = 0
        self._path, self._descriptor = self._open()

    def _open(self) -> tuple[Path, int]:
        path = self.folder / f"{new_id()}{SUFFIX}"
        # Locked before it gets its final name: no process can claim it as a dead process's.
        nameless = path.with_suffix(".new")
        descriptor = os.open(
            nameless, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        nameless.rename(path)
        return path, descriptor

    def check(self) -> None:
        """Raise Unavailable when the spool is full: an unlogged response must not be sent."""
        if self.size >= self.limit:
            raise Unavailable(
                "the event log is full until its database has caught up", retry_after=30
            )

    def append(self, line: bytes) -> None:
        """Write one line including its newline; afterwards it survives a kill of the process.

        Raises Unavailable.
        """
        try:
            if self._written >= SEGMENT:
                self.rotate()
            written = os.write(self._descriptor, line)
        except OSError as error:
            log.exception("the event log cannot be written")
            raise Unavailable("the event log cannot be written") from error
        if written != len(line):  # the disk is full; the partial line would corrupt the next one
            os.ftruncate(self._descriptor, self._written)
            raise Unavailable("the event log's disk is full", retry_after=30)
        self._written += written
        self.size += written

    def rotate(self) -> None:
        """Start a new segment, so that the lines written so far can be shipped."""
        if self._written:
            old = self._descriptor
            self._path, self._descriptor = self._open()
            self._written = 0
            os.close(old)

    def claim(self) -> Iterator[Segment]:
        """Yield closed segments, oldest first, each locked until the next one is requested.

        Segments that cannot be opened are skipped.
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
        """Skip an unreadable segment without deleting it, so that the others are shipped."""
        if path not in self.unreadable:
            log.error(
                "segment %s of the event log cannot be read, its events wait: %s", path, error
            )
        self.unreadable.add(path)

    def drop(self, segment: Segment) -> None:
        """Delete a shipped segment."""
        segment.path.unlink()
        self.unreadable.discard(segment.path)
        # A segment of a process that died later was not counted.
        self.size = max(0, self.size - segment.size)

    def set_aside(self, segment: Segment, line: bytes) -> None:
        """Move a line that the database rejects to a ``.rejected`` file."""
        with segment.path.with_suffix(".rejected").open("ab") as file:
            file.write(line + b"\n")

    def close(self) -> None:
        """Close the current segment, and delete it if it is empty."""
        os.close(self._descriptor)
        if not self._written:
            self._path.unlink(missing_ok=True)
