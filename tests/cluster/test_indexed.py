"""Indexed Jobs: concurrent pods, one for each index, each retried until it succeeds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from slipway_cluster import JOB, Cluster, Invalid, Manifest
from slipway_cluster.job import representative_pod
from slipway_local.standin.job import INDEX, Backoff, plan

from tests.cluster.machine import Machine
from tests.cluster.manifests import job
from tests.cluster.test_cluster import condition, finished_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def indexed(
    name: str, code: str, *args: str, completions: int, parallelism: int = 2, **more: Any
) -> Manifest:
    return job(
        name,
        code,
        *args,
        completionMode="Indexed",
        completions=completions,
        parallelism=parallelism,
        **more,
    )


def a_pod(index: int, phase: str) -> Manifest:
    return {
        "metadata": {"name": f"p-{index}", "annotations": {INDEX: str(index)}},
        "status": {"phase": phase},
    }


def test_each_index_runs_once_with_its_number_and_its_job_in_the_environment(
    cluster: Cluster,
) -> None:
    manifest = indexed(
        "sweep",
        "import os; print(os.environ['JOB_COMPLETION_INDEX'], os.environ['SWEEP'])",
        completions=3,
    )
    named = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "SWEEP", "valueFrom": named}
    ]
    cluster.apply(manifest)
    status = finished_job(cluster, "sweep")["status"]
    assert condition({"status": status}, "Complete")
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    pods = cluster.pods(JOB, "sweep")
    assert sorted(pod["metadata"]["annotations"][INDEX] for pod in pods) == ["0", "1", "2"]
    (line,) = cluster.logs(JOB, "sweep")
    assert line in {"0 sweep", "1 sweep", "2 sweep"}


def test_only_the_failed_index_is_retried_within_the_limit(
    machine: Machine, tmp_path: Path
) -> None:
    code = (
        "import os, pathlib, sys\n"
        "runs = pathlib.Path(sys.argv[1]) / os.environ['JOB_COMPLETION_INDEX']\n"
        "first = not runs.exists()\n"
        "runs.open('a').write('x')\n"
        "sys.exit(first and runs.name == '1')"
    )
    machine.cluster.apply(indexed("sweep", code, str(tmp_path), completions=3, backoff_limit=1))
    status = finished_job(machine.cluster, "sweep")["status"]
    assert (status["completedIndexes"], status["failed"], status["conditions"][0]["type"]) == (
        "0-2",
        1,
        "Complete",
    )
    assert [(tmp_path / str(index)).read_text() for index in range(3)] == ["x", "xx", "x"]


def test_beyond_the_limit_the_job_fails_with_its_completed_indexes(machine: Machine) -> None:
    code = "import os, sys; sys.exit(os.environ['JOB_COMPLETION_INDEX'] == '1')"
    machine.cluster.apply(indexed("sweep", code, completions=2, parallelism=1, backoff_limit=1))
    status = finished_job(machine.cluster, "sweep")["status"]
    assert status["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert (status["completedIndexes"], status["failed"]) == ("0", 2)


def test_there_are_never_more_pods_than_parallelism_allows() -> None:
    manifest = indexed("sweep", "pass", completions=5)
    assert plan(manifest, [], NOW, Backoff()).start == [0, 1]
    pods = [a_pod(0, "Succeeded"), a_pod(1, "Running")]
    assert plan(manifest, pods, NOW, Backoff()).start == [2]
    assert plan(manifest, [*pods, a_pod(2, "Pending")], NOW, Backoff()).start == []


def test_completed_indexes_are_written_as_ranges() -> None:
    manifest = indexed("sweep", "pass", completions=9)
    pods = [a_pod(index, "Succeeded") for index in (7, 0, 3, 2, 4)]
    assert plan(manifest, pods, NOW, Backoff()).status["completedIndexes"] == "0,2-4,7"


def test_the_log_is_that_of_a_running_pod_else_of_the_one_that_ended_last() -> None:
    def ended(index: int, second: int) -> Manifest:
        pod = a_pod(index, "Succeeded")
        moment = f"2026-01-01T00:00:{second:02}Z"
        pod["status"]["containerStatuses"] = [
            {"restartCount": 0, "state": {"terminated": {"finishedAt": moment}}}
        ]
        return pod

    pods = [ended(0, 9), ended(1, 3)]
    assert representative_pod(pods) is pods[0]
    assert representative_pod([*pods, running := a_pod(2, "Running")]) is running
    assert representative_pod([]) is None


def test_the_number_of_indexes_cannot_be_changed(machine: Machine) -> None:
    machine.cluster.apply(indexed("sweep", "pass", completions=2))
    with pytest.raises(Invalid, match=r"spec\.completions"):
        machine.cluster.apply(indexed("sweep", "pass", completions=3))
