"""One local stack for all tests of this folder, started and stopped as a user does.

See README.md and docs/how-to/quantity.md.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from slipway_cluster import connect

from tests.support.processes import wait_for_start
from tests.support.stack import RunningStack

START_SECONDS = 400.0
"""Limit of a start; 30 s on an idle machine, three minutes beside four other test suites."""

STOP_SECONDS = 240.0
"""Limit of a stop: above the sum of the grace periods of predictors, programs and PostgreSQL."""


@dataclass(kw_only=True)
class LocalStack(RunningStack):
    """``python -m slipway_local up`` as a process."""

    database_url: str
    state: Path
    process: subprocess.Popen[bytes]

    @property
    def screen(self) -> str:
        """Everything that it has printed so far."""
        return shown(self.state)

    def programs(self, part: str) -> list[psutil.Process]:
        """Return the running processes of the stack whose command line contains ``part``."""
        return [
            p
            for p in psutil.Process(self.process.pid).children(recursive=True)
            if part in command_line(p)
        ]


def command_line(process: psutil.Process) -> str:
    """Return the words of a process's command, nothing for one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def environment(state: Path) -> dict[str, str]:
    """Return this process's environment without a mirror and without public sources.

    So every run has the same data.
    """
    known = {name: value for name, value in os.environ.items() if name != "SLIPWAY_DATA"}
    profiles = {"XDG_CONFIG_HOME": str(state.parent), "XDG_STATE_HOME": str(state.parent)}
    return {**known, **profiles, "SLIPWAY_FETCH": "false", "SLIPWAY_LOCAL_STATE": str(state)}


def shown(state: Path) -> str:
    return (state.parent / "screen").read_text()


def start(state: Path) -> subprocess.Popen[bytes]:
    """Start the command; its output goes to a file beside the state folder."""
    with (state.parent / "screen").open("wb") as screen:
        argv = [sys.executable, "-m", "slipway_local", "up", "--models", "heart,digits,images"]
        return subprocess.Popen(
            argv, env=environment(state), stdout=screen, stderr=subprocess.STDOUT
        )


def wait_up(state: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait for the last line of a successful start; fail with the output."""
    screen = state.parent / "screen"
    wait_for_start(process, screen, lambda: "up in" in screen.read_text(), START_SECONDS)


def stack_of(state: Path, process: subprocess.Popen[bytes]) -> LocalStack:
    """Return the stack that the files in the state folder describe."""
    lines = (state / "env").read_text().splitlines()
    exported = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    secrets = json.loads((state / "secrets.json").read_text())
    return LocalStack(
        cluster=connect(f"local://{state / 'cluster'}"),
        url=exported["SLIPWAY_URL"],
        mlflow_url=exported["MLFLOW_TRACKING_URI"],
        database_url=exported["SLIPWAY_DATABASE_URL"],
        issuer=f"http://127.0.0.1:{json.loads((state / 'ports.json').read_text())['identity']}",
        passwords={
            name.removeprefix("account-"): value
            for name, value in secrets.items()
            if name.startswith("account-")
        },
        state=state,
        process=process,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Send Ctrl-C like a user; kill the process when it does not end."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    state = tmp_path_factory.mktemp("stack") / "state"
    process = start(state)
    try:
        wait_up(state, process)
        yield stack_of(state, process)
    finally:
        stop(process)


@pytest.fixture(scope="session")
def user(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client("user") as client:
        yield client
