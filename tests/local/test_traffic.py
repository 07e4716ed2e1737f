"""Simulated traffic, and a sweep by its Job."""

import json
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest
from slipway_cluster import JOB

from tests.local.conftest import LocalStack, environment
from tests.support.waiting import SECONDS, wait_for

pytestmark = pytest.mark.stack


def labelled(scientist: httpx.Client) -> dict[str, int]:
    """Return the numbers of labelled and of correct rows of all versions."""
    found = scientist.get("/v1/models/heart/accuracy").raise_for_status().json()["versions"]
    return {name: sum(version[name] for version in found) for name in ("rows", "correct")}


def test_the_simulator_sends_labelled_rows_until_it_is_terminated(stack: LocalStack) -> None:
    command = [
        sys.executable,
        "-m",
        "slipway_local",
        "simulate",
        "heart",
        "--rate",
        "600",
        "--shift",
        "age=+1sd",
    ]
    with stack.client("scientist") as scientist:
        before = labelled(scientist)
        with subprocess.Popen(
            command, env=environment(stack.state), stdout=subprocess.PIPE, text=True
        ) as process:
            wait_for("20 labels", lambda: labelled(scientist)["rows"] - before["rows"] >= 20)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0
        result: dict[str, Any] = json.loads(output.splitlines()[-1])
        after = labelled(scientist)
    assert result["predicted"] == result["labelled"] == after["rows"] - before["rows"]
    assert result["correct"] == after["correct"] - before["correct"]
    assert (result["refused"], result["dataset"]) == (0, "heart-synthetic")


def test_a_sweep_is_an_indexed_job_whose_workers_share_its_trials(stack: LocalStack) -> None:
    args = ("--trials=4", "--set=folds=2", "--set=estimator=logistic", "--set=trees=50")
    name = stack.cluster.create_job("tune-heart", args=args)["metadata"]["name"]
    result = stack.result(name)
    assert (result["status"], result["state"], result["sweep"]) == ("Complete", "tuned", name)
    assert sum(result["trials"].values()) == 4
    assert stack.cluster.get(JOB, name)["status"]["completedIndexes"] == "0-1"
