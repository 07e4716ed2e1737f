"""One ring for all tests of this folder, started and stopped as a user does it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from slipway_cluster import JOB, MODEL, Cluster, connect
from slipway_contract.model import ConditionType, Model

START_SECONDS = 170.0


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of ``condition``; fails with its last value when there is none in time."""
    until = time.monotonic() + seconds
    while not (seen := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s for {what}; last seen: {seen!r}")
        time.sleep(0.1)
    return seen


@dataclass
class RunningRing:
    """``python -m slipway_embedded up`` as a process, and what a user knows of it."""

    state: Path
    process: subprocess.Popen[bytes]
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def screen(self) -> str:
        """Everything that it has shown so far."""
        return (self.state.parent / "screen").read_text()

    @property
    def env(self) -> dict[str, str]:
        """What ``.slipway/env`` exports."""
        lines = (self.state / "env").read_text().splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines for line in [" ".join(shlex.split(line))])

    @property
    def cluster(self) -> Cluster:
        return connect(f"local://{self.state / 'cluster'}")

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{json.loads((self.state / 'ports.json').read_text())['identity']}"

    def token(self, account: str) -> str:
        """An access token of a bootstrap account; one for all tests."""
        if account not in self.tokens:
            self.tokens[account] = self._login(account)
        return self.tokens[account]

    def _login(self, account: str) -> str:
        password = json.loads((self.state / "secrets.json").read_text())[f"account-{account}"]
        form = {"grant_type": "password", "client_id": "slipway", "username": account, "password": password}
        answer = httpx.post(f"{self.issuer}/oauth/token", data={**form, "scope": "openid profile groups"}, timeout=30)
        return str(answer.raise_for_status().json()["access_token"])

    def client(self, account: str = "user") -> httpx.Client:
        """An HTTP client of the gateway with the account's token."""
        headers = {"Authorization": f"Bearer {self.token(account)}"}
        return httpx.Client(base_url=self.env["SLIPWAY_URL"], headers=headers, timeout=30)

    def model(self, name: str) -> Model:
        return Model.model_validate(self.cluster.get(MODEL, name))

    def live(self, name: str) -> str | None:
        """The version that takes all traffic, if one does."""
        return next((t.version for t in self.model(name).status.traffic if t.percent == 100), None)

    def degraded(self, name: str) -> str:
        """Reason and message of the Degraded condition when it is true."""
        found = self.model(name).status.condition(ConditionType.DEGRADED)
        return f"{found.reason}: {found.message}" if found and found.status == "True" else ""

    def job(self, template: str, *args: str) -> dict[str, Any]:
        """Run a Job from its template; returns what it printed last, with its ``status`` Complete or Failed."""
        name = self.cluster.create_job(template, args=args)["metadata"]["name"]
        status = wait_for(f"Job {name}", lambda: self._finished(name), 120)
        lines = list(self.cluster.logs(JOB, name))
        results = [line for line in lines if line.startswith("{")]
        assert results, "\n".join(lines)
        return {**json.loads(results[-1]), "status": status}

    def _finished(self, name: str) -> str | None:
        conditions = self.cluster.get(JOB, name).get("status", {}).get("conditions", [])
        return next((c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)

    def programs(self, part: str) -> list[psutil.Process]:
        """Running processes of the ring whose command line has ``part``."""
        return [p for p in psutil.Process(self.process.pid).children(recursive=True) if part in " ".join(p.cmdline())]


def start(state: Path, *args: str) -> RunningRing:
    """Start the command; its screen goes to a file beside the state folder."""
    with (state.parent / "screen").open("wb") as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "slipway_embedded", "up", *args],
            env={**environment(), "SLIPWAY_EMBEDDED_STATE": str(state)},
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    return RunningRing(state, process)


def environment() -> dict[str, str]:
    """The environment of this process; Jobs do not try to reach public sources from tests."""
    return {**os.environ, "SLIPWAY_FETCH": "false"}


def wait_up(ring: RunningRing) -> None:
    """Wait for the line that it shows when it is up; fails with its screen."""
    until = time.monotonic() + START_SECONDS
    while "up in" not in ring.screen:
        assert ring.process.poll() is None, ring.screen
        assert time.monotonic() < until, ring.screen
        time.sleep(0.2)


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRing]:
    ring = start(tmp_path_factory.mktemp("ring") / "state")
    try:
        wait_up(ring)
        yield ring
    finally:
        ring.process.send_signal(signal.SIGINT)
        try:
            ring.process.wait(60)
        finally:
            ring.process.kill()


@pytest.fixture(scope="session")
def user(ring: RunningRing) -> Iterator[httpx.Client]:
    with ring.client("user") as client:
        yield client
