"""Processes that we start, and never mistake for others."""

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
"""Environment variable that every process of a pod inherits; its value is the pod's uid."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProcessId:
    """A pid with the time of its start: a pid alone is soon another process's."""

    pid: int
    started: float

    def __str__(self) -> str:
        return f"process://{self.pid}@{self.started!r}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        match = re.fullmatch(r"process://(\d+)@([\d.]+)", text)
        return cls(int(match[1]), float(match[2])) if match else None


class Process:
    """A program in a process group of its own, which dies with the thread that started it at the
    latest.
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_file: Path
    ) -> None:
        """Output and errors are appended to ``log_file``. A program that is not there ends with 127
        and says so in the log.
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
        """Exit code as a shell gives it (128 + signal), None while it runs. What it left behind in
        its group is killed.
        """
        code = self._popen.poll()
        if code is None:
            return None
        _kill_group(self.id.pid)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to the program itself, as a container's first process gets it."""
        self._popen.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group; returns when the program is gone."""
        if self.poll() is None:
            _kill_group(self.id.pid)
            self._popen.wait()


def kill_leftovers(recorded: Sequence[ProcessId], marks: Sequence[str]) -> int:
    """Kill the recorded processes if they still are the same, and every process that bears one of
    the marks; says how many.

    For those that nobody else can end: after a kubelet was killed, and what left its process group.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        # Processes end while one looks at them, and others' environments are not readable: neither
        # is ours to kill.
        with suppress(psutil.Error, OSError):
            if ProcessId(process.pid, process.create_time()) in recorded or _bears(process, marks):
                found[process.pid] = process
    for process in found.values():
        with suppress(psutil.NoSuchProcess):
            log.warning(
                "killing process %d, which was left behind: %s", process.pid, process.name()
            )
            process.kill()
    psutil.wait_procs(list(found.values()), timeout=10)
    return len(found)


def _bears(process: psutil.Process, marks: Sequence[str]) -> bool:
    return process.uids().real == os.getuid() and process.environ().get(MARK) in marks


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
