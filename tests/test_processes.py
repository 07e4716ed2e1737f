"""A server that does not start fails the test, with its log and without a wait."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import free_port, responds, running_process, wait_for_start


def test_a_process_that_ends_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    never = responds(f"http://127.0.0.1:{free_port()}")
    command, log = [sys.executable, "-c", "raise SystemExit('no database')"], tmp_path / "log"
    with (
        running_process(command, log) as process,
        pytest.raises(AssertionError, match="ended with status 1:\nno database"),
    ):
        wait_for_start(process, log, never)


def test_a_process_that_does_not_respond_fails_after_the_deadline_and_is_stopped(
    tmp_path: Path,
) -> None:
    command, log = [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log"
    with (
        running_process(command, log) as process,
        pytest.raises(AssertionError, match="has not started within 0 s"),
    ):
        wait_for_start(process, log, lambda: False, seconds=0.1)
    assert process.returncode == -15
