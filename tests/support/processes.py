"""Servers as processes: a free port, start, readiness, stop."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

START_SECONDS = 300.0
"""Deadline of a start. It ends a hang and measures no speed: machines that run tests are busy."""
LOG_END = 4000
"""Characters of a log in a failure."""


_reserved: list[socket.socket] = []


def reserved_port() -> socket.socket:
    """Return a socket with a free loopback port, which no other program gets until it is closed.

    Servers can listen on the port, because they set SO_REUSEADDR.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def free_port() -> int:
    """Return a free loopback port, which stays reserved until the end of this process."""
    _reserved.append(reserved_port())
    return int(_reserved[-1].getsockname()[1])


def installed(name: str, environment: str) -> Path:
    """Return a program of the current environment, or else of another one by its folder."""
    here = Path(sys.executable).with_name(name)
    return here if here.exists() else Path(__file__).parents[2] / environment / "bin" / name


@contextmanager
def running_process(
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command with its output in the log; at the end, stop it and its child processes."""
    with log.open("ab") as output:
        # A session of its own is a group of processes, which includes a server's workers.
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_start(
    process: "subprocess.Popen[bytes]",
    log: Path,
    started: Callable[[], object],
    seconds: float = START_SECONDS,
) -> None:
    """Wait until ``started`` returns a true value.

    Raises:
        AssertionError: The process has ended, or the deadline has passed; with the end of the log.
    """
    deadline = time.monotonic() + seconds
    while not started():
        status = process.poll()
        if status is not None or time.monotonic() > deadline:
            failure = (
                f"has not started within {seconds:.0f} s"
                if status is None
                else (f"ended with status {status}")
            )
            raise AssertionError(f"{process.args!r} {failure}:\n{log.read_text()[-LOG_END:]}")
        time.sleep(0.05)


def responds(url: str) -> Callable[[], bool]:
    """Return a condition: a GET of the URL has status 200."""

    def condition() -> bool:
        try:
            return httpx.get(url, timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    return condition


def program(name: str) -> str:
    """Return the path of a program. Without it the test is skipped, and in CI it fails."""
    if found := shutil.which(name):
        return found
    missing = f"{name} is not installed; make install builds it where there is Go"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
