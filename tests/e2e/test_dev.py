"""The dev loop: ``make dev``, one changed line, and the change is served."""

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway_cluster import JOB

from tests.e2e.conftest import KindStack, helm, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for

log = logging.getLogger(__name__)
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).parents[2]
MADE_HERE = (".venv", ".venv-serving", ".uv", ".venv-clients", ".venv-docs")
"""Environments of the checkout, which the copy uses, too."""
SERVED_SECONDS = 300.0
"""Deadline, which ends a hang; normally under 10 s, several times as long on a busy machine."""
MARK = "this line was changed"


@dataclass
class Loop:
    """``make dev`` in a copy of the checkout."""

    checkout: Path
    log: Path

    def change(self, path: str, line: str, changed: str) -> float:
        """Replace a line of a source file and return the monotonic time of the change."""
        file = self.checkout / path
        text = file.read_text()
        assert text.count(line) == 1, f"{path} has {text.count(line)} of: {line}"
        file.write_text(text.replace(line, changed))
        return time.monotonic()

    def served(self, what: str, saved: float, condition: Callable[[], Any]) -> None:
        """Wait until a change is served; fail after a deadline with the end of skaffold's log."""
        try:
            wait_for(what, condition, SERVED_SECONDS - (time.monotonic() - saved))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()[-3000:]}") from None
        log.info("%s: %.1f s", what, time.monotonic() - saved)


def predictors() -> set[str]:
    """Return the identities of all predictor pods, with the number of their restarts."""
    found = objects("pods", "serving.kserve.io/inferenceservice")
    return {
        f"{pod['metadata']['uid']} {pod['status']['containerStatuses'][0]['restartCount']}"
        for pod in found
    }


@pytest.fixture(scope="module")
def loop(stack: KindStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:  # noqa: ARG001 - needs a cluster
    """``make dev`` after its start; the former release is restored afterwards."""
    folder = tmp_path_factory.mktemp("dev")
    checkout, log = folder / "checkout", folder / "log"
    # With its history: an image is labelled with the commit of its sources.
    ignored = shutil.ignore_patterns(*MADE_HERE, ".slipway", ".mypy_cache", "__pycache__")
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=ignored)
    for name in MADE_HERE:
        if (ROOT / name).exists():
            (checkout / name).symlink_to(ROOT / name)
    before = json.loads(helm("history", "slipway", "--max", "1", "--output", "json"))[0]["revision"]
    with log.open("w") as output:
        # The copy shares the environments of the checkout and must not install itself there.
        command = ["make", "-o", ".venv/.installed", "-o", ".venv-serving/.installed", "dev"]
        make = subprocess.Popen(
            command, cwd=checkout, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for("make dev to watch for changes", lambda: _watching(make, log), 600)
        yield Loop(checkout, log)
    finally:
        os.killpg(make.pid, signal.SIGINT)
        ended = _end(make)
        helm("rollback", "slipway", str(before), "--wait", "--timeout", "5m")
    assert ended, f"make dev does not end by Ctrl-C:\n{log.read_text()[-3000:]}"


def _watching(make: subprocess.Popen[bytes], log: Path) -> bool:
    assert make.poll() is None, log.read_text()[-5000:]
    return "Watching for changes" in log.read_text()


def _end(make: subprocess.Popen[bytes]) -> bool:
    try:
        make.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(make.pid, signal.SIGKILL)
        return False
    return True


def pods(component: str) -> list[str]:
    """Return the names of the pods of a component."""
    return [
        pod["metadata"]["name"]
        for pod in objects("pods", f"app.kubernetes.io/component={component}")
    ]


def status_of(pod: str) -> str:
    """Return a gateway's status at ``/livez``, empty without a response."""
    read = (
        "import json, urllib.request as u; "
        "print(json.load(u.urlopen('http://127.0.0.1:8080/livez', timeout=2))['status'])"
    )
    return kubectl("exec", pod, "--", "python", "-c", read, check=False).stdout.strip()


def logs_of(component: str) -> dict[str, str]:
    """Return the end of the log of each pod of a component, by name."""
    return {
        name: kubectl("logs", name, "--tail=200", check=False).stdout for name in pods(component)
    }


@pytest.fixture(scope="module")
def unchanged(stack: KindStack) -> set[str]:  # noqa: ARG001
    """Predictors before ``make dev``."""
    return predictors()


def test_predictors_are_not_restarted(unchanged: set[str], loop: Loop) -> None:  # noqa: ARG001 - needs a started loop
    assert unchanged
    assert predictors() == unchanged


def test_a_change_of_the_gateway_is_served(loop: Loop) -> None:
    saved = loop.change(
        "gateway/slipway_gateway/edge/health.py",
        'return {"status": "ok"}',
        f'return {{"status": "{MARK}"}}',
    )
    # Every gateway, so each is read in its own pod.
    loop.served(
        "a change of the gateway",
        saved,
        lambda: {status_of(name) for name in pods("gateway")} == {MARK},
    )


def test_a_change_of_the_worker_is_served(loop: Loop) -> None:
    line = 'log.info("worker started, metrics on %d"'
    saved = loop.change(
        "gateway/slipway_gateway/worker.py", line, line.replace("worker started", MARK)
    )
    loop.served(
        "a change of the worker",
        saved,
        lambda: all(MARK in log for log in logs_of("worker").values()),
    )


def test_a_change_of_the_controller_is_served(loop: Loop) -> None:
    line = "def main("
    saved = loop.change(
        "controller/slipway_controller/__main__.py",
        line,
        f'print("{MARK}", flush=True)\n\n\n{line}',
    )
    loop.served(
        "a change of the controller",
        saved,
        lambda: all(MARK in log for log in logs_of("controller").values()),
    )


def test_a_job_that_starts_after_a_change_runs_it(stack: KindStack, loop: Loop) -> None:
    line = "def main("
    saved = loop.change(
        "jobs/slipway_jobs/__main__.py", line, f'print("{MARK}", flush=True)\n\n\n{line}'
    )
    (mlflow,) = pods("mlflow")
    look = ["exec", mlflow, "--", "grep", "-c", MARK, "/sources/slipway_jobs/__main__.py"]
    loop.served("a change of the jobs", saved, lambda: kubectl(*look, check=False).returncode == 0)
    job = stack.cluster.create_job("promote", args=["no-such-model", "1"])["metadata"]["name"]
    wait_for(
        "the Job to end",
        lambda: stack.cluster.get(JOB, job).get("status", {}).get("conditions"),
        START_SECONDS,
    )
    assert MARK in "\n".join(stack.cluster.logs(JOB, job))


def test_predictors_were_not_restarted_by_any_change(unchanged: set[str], loop: Loop) -> None:  # noqa: ARG001
    assert predictors() == unchanged
