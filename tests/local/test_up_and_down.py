"""End and second start of the local stack.

The file's name makes it the last of this folder: it stops the stack of the others.
"""

import signal
import subprocess
import sys

import psutil  # type: ignore[import-untyped]
import pytest

from tests.local.conftest import LocalStack, environment

pytestmark = pytest.mark.stack


def test_ctrl_c_stops_every_process_and_a_second_start_reuses_the_state(stack: LocalStack) -> None:
    digest = stack.model("heart").status.traffic[0].digest
    processes = [
        psutil.Process(stack.process.pid),
        *psutil.Process(stack.process.pid).children(recursive=True),
    ]
    database = [
        p
        for p in psutil.process_iter()
        if p.name() == "postgres" and str(stack.state) in " ".join(p.cmdline())
    ]
    assert database
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(60) == 0
    gone, alive = psutil.wait_procs([*processes, *database], timeout=10)
    assert alive == []
    assert len(gone) > 8
    again = subprocess.run(
        [sys.executable, "-m", "slipway_local", "up", "--once"],
        env=environment(stack.state),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert digest in again.stdout
    assert "train" not in again.stdout
