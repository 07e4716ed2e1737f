"""Recovery after the death of the launcher, the kubelet, or a running Job."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from slipway_cluster import CRON_JOB, INFERENCE_SERVICE, JOB, MODEL, ClusterError, Manifest
from slipway_cluster.interface import POD
from slipway_local.standin.kubelet import Kubelet
from slipway_local.standin.process import MARK, ProcessId, kill_leftovers

from tests.cluster.machine import IMAGES, Machine, is_ready, read
from tests.cluster.manifests import SERVER, container, cron_job, job, runtime, service, storage
from tests.support.processes import START_SECONDS
from tests.support.waiting import SECONDS, until

LAUNCHER = """
import json, pathlib, sys, threading
from slipway_local.standin.kubelet import Image, Kubelet
root, image = sys.argv[1:]
Kubelet(pathlib.Path(root),
{image: Image(pathlib.Path(sys.executable).parent)}).run(threading.Event())
"""
SPAWNING = SERVER.replace(
    "print('serving'",
    "import subprocess; print(subprocess.Popen([sys.executable, '-c', 'import time; "
    "time.sleep(600)'],"
    " start_new_session=True).pid, flush=True)\nprint('serving'",
)


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Machine]:
    """Yield a machine whose kubelet is not started."""
    machine = Machine(tmp_path / "state")
    yield machine
    machine.stop()
    machine.cluster.close()


def launch(root: Path) -> subprocess.Popen[bytes]:
    (image,) = IMAGES
    return subprocess.Popen([sys.executable, "-c", LAUNCHER, str(root), image])


def serve(machine: Machine, code: str = SERVER) -> None:
    machine.cluster.apply(runtime(code))
    machine.cluster.apply(storage())
    machine.cluster.apply(service())


def pids(machine: Machine) -> list[int]:
    """Return the recorded pids of the pods' containers."""
    containers = [
        each
        for pod in machine.cluster.list(POD)
        for each in pod.get("status", {}).get("containerStatuses", [])
    ]
    return [found.pid for each in containers if (found := ProcessId.parse(each["containerID"]))]


def is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_processes_die_with_a_launcher_that_is_killed(idle: Machine) -> None:
    serve(idle)
    launcher = launch(idle.root)
    idle.url_of_ready("heart-3")
    (pid,) = pids(idle)
    launcher.kill()
    launcher.wait()
    until(lambda: is_gone(pid), bool)


@pytest.mark.slow
def test_leftovers_of_a_killed_launcher_are_killed_at_the_next_start_and_the_service_restarts(
    idle: Machine,
) -> None:
    serve(idle, SPAWNING)
    launcher = launch(idle.root)
    former = idle.url_of_ready("heart-3")
    grandchild = int(next(idle.cluster.logs(INFERENCE_SERVICE, "heart-3")))
    launcher.kill()
    launcher.wait()
    assert not is_gone(grandchild)
    idle.start()
    until(lambda: is_gone(grandchild), bool)
    status = idle.service(
        "heart-3", lambda seen: is_ready(seen) and seen["address"]["url"] != former
    )
    url = str(status["address"]["url"])
    assert read(f"{url}/uri") == "mlflow://heart/3?sha256=abc"


def test_a_process_that_left_its_group_ends_with_its_container(machine: Machine) -> None:
    serve(machine, SPAWNING)
    machine.url_of_ready("heart-3")
    grandchild = int(next(machine.cluster.logs(INFERENCE_SERVICE, "heart-3")))
    machine.cluster.delete(INFERENCE_SERVICE, "heart-3")
    until(lambda: is_gone(grandchild), bool)


def test_a_file_of_the_user_among_the_logs_does_not_end_the_kubelet(machine: Machine) -> None:
    logs = machine.root / "logs"
    (logs / "notes").touch()
    serve(machine)
    machine.url_of_ready("heart-3")
    machine.cluster.delete(INFERENCE_SERVICE, "heart-3")
    until(lambda: [each.name for each in logs.iterdir()], lambda names: names == ["notes"])
    serve(machine)
    machine.url_of_ready("heart-3")


def test_a_stopped_kubelet_leaves_no_process_and_restarts_its_services(idle: Machine) -> None:
    serve(idle)
    idle.start()
    idle.url_of_ready("heart-3")
    (pid,) = pids(idle)
    idle.stop()
    assert is_gone(pid)
    assert not is_ready(idle.service("heart-3", bool))
    idle.start()
    assert read(idle.url_of_ready("heart-3") + "/ready") == "yes"


@pytest.mark.slow
@pytest.mark.parametrize(("backoff_limit", "outcome"), [(1, "Complete"), (0, "Failed")])
def test_a_job_that_was_running_during_the_crash_is_retried_within_its_limit(
    idle: Machine, tmp_path: Path, backoff_limit: int, outcome: str
) -> None:
    first_only = (
        "import pathlib, sys, time\np = pathlib.Path(sys.argv[1])\nif not p.exists():\n "
        "p.touch()\n time.sleep(600)"
    )
    idle.cluster.apply(
        job("train", first_only, str(tmp_path / "seen"), backoff_limit=backoff_limit)
    )
    launcher = launch(idle.root)
    until((tmp_path / "seen").exists, bool)
    until(lambda: pids(idle), len)
    launcher.kill()
    launcher.wait()
    idle.start()
    conditions = until(lambda: idle.cluster.get(JOB, "train")["status"].get("conditions"), bool)
    assert conditions is not None
    assert conditions[0]["type"] == outcome


def test_a_finished_job_is_not_run_again_after_a_restart(idle: Machine, tmp_path: Path) -> None:
    count = "import sys; open(sys.argv[1], 'a').write('x')"
    idle.cluster.apply(job("once", count, str(tmp_path / "runs")))
    idle.start()
    until(
        lambda: idle.cluster.get(JOB, "once").get("status", {}),
        lambda status: status.get("succeeded"),
    )
    idle.stop()
    idle.start()
    idle.cluster.apply(job("next", "pass"))
    until(
        lambda: idle.cluster.get(JOB, "next").get("status", {}),
        lambda status: status.get("succeeded"),
    )
    assert (tmp_path / "runs").read_text() == "x"


def test_only_one_kubelet_runs_on_a_folder(machine: Machine) -> None:
    # A Job that has ended shows that the kubelet has its lock. The file exists a little earlier.
    machine.cluster.apply(job("once", "pass"))
    until(
        lambda: machine.cluster.get(JOB, "once").get("status", {}),
        lambda status: status.get("succeeded"),
    )
    with pytest.raises(ClusterError, match="another kubelet"):
        Kubelet(machine.root, IMAGES).run(threading.Event())


def test_an_unrelated_process_with_a_recorded_pid_is_not_killed() -> None:
    unrelated = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert kill_leftovers([ProcessId(unrelated.pid, started=12345.0)], ["no-such-pod"]) == 0
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


def test_a_process_with_the_mark_of_a_pod_is_killed() -> None:
    marked = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, MARK: "pod-1"}
    )
    until(lambda: psutil.Process(marked.pid).environ().get(MARK), bool)
    assert kill_leftovers([], ["pod-1"]) == 1
    until(lambda: is_gone(marked.pid), bool)
    marked.wait(SECONDS)


def test_a_job_ended_by_its_deadline_is_not_started_again_while_it_ends(
    machine: Machine, tmp_path: Path
) -> None:
    stubborn = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'a').write('x')\ntime.sleep(600)"
    )
    machine.cluster.apply(
        job("slow", stubborn, str(tmp_path / "runs"), activeDeadlineSeconds=5, backoff_limit=3)
    )
    (pid,) = until(lambda: pids(machine), len)
    until(lambda: is_gone(pid), bool)
    machine.cluster.apply(job("next", "pass"))
    until(
        lambda: machine.cluster.get(JOB, "next").get("status", {}),
        lambda status: status.get("succeeded"),
    )
    assert (tmp_path / "runs").read_text() == "x"
    assert [
        pod["status"]["phase"]
        for pod in machine.cluster.list(POD, {"batch.kubernetes.io/job-name": "slow"})
    ] == ["Failed"]


@pytest.mark.parametrize("limit", [0, 2])
def test_a_job_with_restarts_in_its_pod_runs_within_its_limit(
    machine: Machine, tmp_path: Path, limit: int
) -> None:
    count = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(9)"
    machine.cluster.apply(
        job("again", count, str(tmp_path / "runs"), restart_policy="OnFailure", backoff_limit=limit)
    )
    status = until(
        lambda: machine.cluster.get(JOB, "again").get("status", {}),
        lambda status: status.get("conditions"),
    )
    assert status["conditions"][0]["reason"] == "BackoffLimitExceeded"
    assert (tmp_path / "runs").read_text() == "x" * (limit + 1)
    assert len(machine.cluster.list(POD)) == 1
    assert [str(crash) for crash in machine.crashes] == ["Job again: main ended with 9"] * (
        limit + 1
    )


def test_an_init_container_runs_first_and_its_failure_fails_the_job(machine: Machine) -> None:
    manifest = job("train", "print('trained')")
    first = {**container("print('prepared')"), "name": "prepare"}
    manifest["spec"]["template"]["spec"]["initContainers"] = [first]
    machine.cluster.apply(manifest)
    until(
        lambda: machine.cluster.get(JOB, "train").get("status", {}),
        lambda status: status.get("succeeded"),
    )
    assert list(machine.cluster.logs(JOB, "train", container="prepare")) == ["prepared"]
    failing = job("fail", "print('trained')")
    failing["spec"]["template"]["spec"]["initContainers"] = [
        {**first, "command": ["python", "-c", "raise SystemExit(2)"]}
    ]
    machine.cluster.apply(failing)
    until(
        lambda: machine.cluster.get(JOB, "fail").get("status", {}),
        lambda status: status.get("conditions"),
    )
    assert list(machine.cluster.logs(JOB, "fail")) == []


def test_files_of_deleted_pods_are_removed_after_a_restart(idle: Machine) -> None:
    serve(idle)
    idle.start()
    idle.url_of_ready("heart-3")
    (former,) = idle.root.glob("pods/*")
    idle.stop()
    idle.start()
    idle.url_of_ready("heart-3")
    until(former.exists, lambda there: not there)


def test_a_deleted_job_is_killed(machine: Machine) -> None:
    machine.cluster.apply(job("long", "import time; time.sleep(600)"))
    (pid,) = until(lambda: pids(machine), len)
    machine.cluster.delete(JOB, "long")
    until(lambda: is_gone(pid), bool)


@pytest.mark.slow
def test_concurrent_writes_of_several_processes_are_not_lost(idle: Machine) -> None:
    write = (
        "import json, pathlib, sys\n"
        "from slipway_cluster import connect\n"
        "cluster = connect('local://' + sys.argv[1])\n"
        "manifest = json.loads(sys.argv[3])\n"
        "for i in range(50):\n"
        "    manifest['metadata']['name'] = f'm{sys.argv[2]}-{i}'\n"
        "    cluster.apply(manifest)\n"
    )
    manifest = {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {},
        "spec": {"registeredModel": "m"},
    }
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", write, str(idle.root), str(number), json.dumps(manifest)]
        )
        for number in range(3)
    ]
    assert [writer.wait(START_SECONDS) for writer in writers] == [0, 0, 0]
    versions = {each["metadata"]["resourceVersion"] for each in idle.cluster.list(MODEL)}
    assert len(versions) == 150


@pytest.mark.slow
def test_another_process_sees_a_change_immediately(idle: Machine) -> None:
    watch = (
        "import sys\n"
        "from slipway_cluster import CRON_JOB, connect\n"
        "for event in connect('local://' + sys.argv[1]).watch(CRON_JOB, timeout=500):\n"
        "    print(event.type, event.object['metadata']['name'], flush=True)\n"
        "    if event.type == 'DELETED': break\n"
    )
    watcher = subprocess.Popen(
        [sys.executable, "-c", watch, str(idle.root)], stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout
    with watcher.stdout as lines:
        idle.cluster.apply(cron_job("train", "pass"))
        assert lines.readline() == "ADDED train\n"
        idle.cluster.suspend("train", False)
        assert lines.readline() == "MODIFIED train\n"
        idle.cluster.delete(CRON_JOB, "train")
        assert lines.readline() == "DELETED train\n"
    assert watcher.wait(SECONDS) == 0


def test_a_schedule_creates_jobs_and_limits_its_history(machine: Machine) -> None:
    machine.cluster.apply(
        cron_job("tick", "pass", schedule="* * * * *", suspend=False, successfulJobsHistoryLimit=2)
    )

    def done() -> list[str]:
        jobs = [
            each for each in machine.cluster.list(JOB) if each.get("status", {}).get("succeeded")
        ]
        return [each["metadata"]["name"] for each in jobs]

    for _ in range(4):
        # To the start of the next minute, so that the kubelet syncs before the following one.
        machine.ahead += timedelta(seconds=60 - machine.now().second)
        name = f"tick-{int(machine.now().timestamp()) // 60}"
        until(done, lambda names, name=name: name in names)  # type: ignore[misc]
    until(done, lambda names: len(names) == 2)
    status: Manifest = machine.cluster.get(CRON_JOB, "tick")["status"]
    assert status["lastScheduleTime"] <= status["lastSuccessfulTime"]
