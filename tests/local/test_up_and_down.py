"""End and second start of the local stack.

The file's name makes it the last of this folder: it stops the stack of the others.
"""

import signal
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from slipway_local.state import State

from tests.local.conftest import (
    START_SECONDS,
    STOP_SECONDS,
    LocalStack,
    command_line,
    environment,
)
from tests.support.waiting import SECONDS

pytestmark = pytest.mark.stack


def postgresql_log(state: Path) -> str:
    folder = state / "cluster" / "logs" / "slipway-postgresql"
    return (folder / "postgresql.log").read_text()


def test_ctrl_c_stops_every_process_and_a_second_start_reuses_the_state(stack: LocalStack) -> None:
    digest = stack.model("heart").status.traffic[0].digest
    processes = [
        psutil.Process(stack.process.pid),
        *psutil.Process(stack.process.pid).children(recursive=True),
    ]
    database = [
        p
        for p in psutil.process_iter(["name"])
        if p.info["name"] == "postgres" and str(stack.state) in command_line(p)
    ]
    assert database
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(STOP_SECONDS) == 0
    assert "stopping…" in stack.screen
    assert "database system is shut down" in postgresql_log(stack.state)
    gone, alive = psutil.wait_procs([*processes, *database], timeout=SECONDS)
    assert alive == []
    assert len(gone) > 8
    again = subprocess.run(
        [sys.executable, "-m", "slipway_local", "up", "--once"],
        env=environment(stack.state),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert digest in again.stdout
    assert "train" not in again.stdout


def test_a_failed_start_names_the_part_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9")
    failed = subprocess.run(
        [sys.executable, "-m", "slipway_local", "up", "--once"],
        env={**environment(tmp_path), "SLIPWAY_LOCAL_DEADLINE": "30"},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert failed.returncode == 1
    assert "! Deployment slipway-postgresql: postgresql ended with 1" in failed.stderr
    assert f"(logs: {tmp_path}/cluster/logs/slipway-postgresql)" in failed.stderr
    assert "waited 30 s for slipway-postgresql to be ready; the end of its log:" in failed.stderr
    assert "Version mismatch: expecting version 18 but found version 9" in failed.stderr


def test_a_second_stack_on_the_same_state_does_not_start(tmp_path: Path) -> None:
    with State(tmp_path).claim():
        refused = subprocess.run(
            [sys.executable, "-m", "slipway_local", "up", "--once"],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert refused.returncode == 1
    assert f"another local stack runs on {tmp_path}" in refused.stderr
    assert not (tmp_path / "cluster" / "pods").exists()
