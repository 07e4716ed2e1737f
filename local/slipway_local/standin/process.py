"""Child processes with an unambiguous identity."""

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]

from slipway_local.standin import parent_death

MARK = "SLIPWAY_POD"
"""Environment variable that every process of a pod inherits: the pod's uid."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessId:
    """A pid with its start time: the kernel reuses pids."""

    pid: int
    started: float

    def __str__(self) -> str:
        return f"process://{self.pid}@{self.started!r}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        match = re.fullmatch(r"process://(\d+)@([\d.]+)", text)
        return cls(int(match[1]), float(match[2])) if match else None


class Process:
    """A program in its own process group, which dies with the thread that started it."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_file: Path
    ) -> None:
        """Start the program and append its output and errors to ``log_file``.

        A missing program ends with 127 and an error in the log.
        """
        argv_with_guard = [
            sys.executable,
            "-I",
            "-S",
            parent_death.__file__,
            str(os.getpid()),
            *argv,
        ]
        with log_file.open("ab") as output:
            self._popen = subprocess.Popen(
                argv_with_guard,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.id = ProcessId(self._popen.pid, psutil.Process(self._popen.pid).create_time())

    def poll(self) -> int | None:
        """Return the exit code as a shell does (128 + signal), None while the program runs.

        After its end, the rest of its group is killed.
        """
        code = self._popen.poll()
        if code is None:
            return None
        _kill_group(self.id.pid)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """Send SIGTERM to the program itself, like to a container's first process."""
        self._popen.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the whole group and wait for the end of the program."""
        if self.poll() is None:
            _kill_group(self.id.pid)
            self._popen.wait()


def kill_leftovers(recorded: Sequence[ProcessId], marks: Sequence[str]) -> int:
    """Kill recorded processes that still exist, and all with one of the marks; return the number.

    These are processes that a killed kubelet left, and those that left their process group.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        # Processes may end during the iteration, and environments of other users are not readable;
        # neither must be killed.
        with suppress(psutil.Error, OSError):
            if ProcessId(process.pid, process.create_time()) in recorded or _has_mark(
                process, marks
            ):
                found[process.pid] = process
    for process in found.values():
        with suppress(psutil.NoSuchProcess):
            log.warning("killing leftover process %d: %s", process.pid, process.name())
            process.kill()
    psutil.wait_procs(list(found.values()), timeout=10)
    return len(found)


def _has_mark(process: psutil.Process, marks: Sequence[str]) -> bool:
    return process.uids().real == os.getuid() and process.environ().get(MARK) in marks


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
