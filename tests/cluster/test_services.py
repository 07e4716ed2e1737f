"""InferenceServices on the local cluster, which behaves like KServe and a kubelet."""

import os
import signal
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from slipway_cluster import INFERENCE_SERVICE, MODEL, Manifest, NotFound
from slipway_cluster.interface import POD
from slipway_local.standin.kubelet import Backoff, KubeletOptions
from slipway_local.standin.process import ProcessId

from tests.cluster.machine import Machine, is_ready, read
from tests.cluster.manifests import RUNTIME, SERVER, model, runtime, service, storage
from tests.support.waiting import until


@pytest.fixture
def patient_machine(tmp_path: Path) -> Iterator[Machine]:
    """Yield a machine whose delays of restarts are long enough to be seen."""
    options = KubeletOptions(backoff=Backoff(first=1, longest=60), turn_seconds=0.1)
    with Machine.running(tmp_path / "state", options) as machine:
        yield machine


def serve(machine: Machine, manifest: Manifest | None = None, **runtime_fields: Any) -> Manifest:
    machine.cluster.apply(runtime(**runtime_fields))
    machine.cluster.apply(storage())
    return machine.cluster.apply(manifest or service())


def main_container(machine: Machine, name: str = "heart-3") -> Manifest:
    """Return the status of the newest pod's container."""
    pods = machine.cluster.list(POD, {"serving.kserve.io/inferenceservice": name})
    containers: list[Manifest] = (
        pods[-1].get("status", {}).get("containerStatuses", []) if pods else []
    )
    return containers[0] if containers else {}


def process_of(container: Manifest) -> ProcessId:
    found = ProcessId.parse(container["containerID"])
    assert found, container
    return found


def runs(process: ProcessId) -> bool:
    try:
        found = psutil.Process(process.pid)
        return bool(
            found.create_time() == process.started and found.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def up_after(machine: Machine, restarts: int) -> ProcessId:
    """Return the process that is ready after so many restarts."""
    return process_of(
        until(
            lambda: main_container(machine),
            lambda seen: seen.get("restartCount") == restarts and seen["ready"],
        )
    )


def test_a_service_is_downloaded_then_served_on_a_free_port(machine: Machine) -> None:
    serve(machine)
    status = machine.service("heart-3", is_ready)
    url = status["address"]["url"]
    assert url.startswith("http://127.0.0.1:")
    assert not url.endswith(":8080")
    assert read(f"{url}/uri") == "mlflow://heart/3?sha256=abc"
    assert status["modelStatus"] == {
        "transitionStatus": "UpToDate",
        "states": {"activeModelState": "Loaded", "targetModelState": "Loaded"},
    }
    assert status["observedGeneration"] == 1
    assert list(machine.cluster.logs(INFERENCE_SERVICE, "heart-3")) == ["serving heart-3"]
    init = machine.cluster.logs(INFERENCE_SERVICE, "heart-3", container="storage-initializer")
    assert list(init) == ["fetching mlflow://heart/3?sha256=abc"]
    with pytest.raises(NotFound, match="kserve-container, storage-initializer"):
        list(machine.cluster.logs(INFERENCE_SERVICE, "heart-3", container="other"))


def test_two_services_with_the_same_container_port_live_side_by_side(machine: Machine) -> None:
    serve(machine)
    machine.cluster.apply(service("heart-4", "mlflow://heart/4?sha256=def"))
    first, second = machine.url_of_ready("heart-3"), machine.url_of_ready("heart-4")
    assert first != second
    assert read(f"{second}/uri") == "mlflow://heart/4?sha256=def"


def test_a_service_whose_probe_fails_is_not_ready(machine: Machine) -> None:
    serve(
        machine, readinessProbe={"httpGet": {"path": "/absent", "port": 8080}, "periodSeconds": 1}
    )
    until(lambda: main_container(machine), lambda seen: "running" in seen.get("state", {}))
    status = machine.service(
        "heart-3",
        lambda seen: (
            seen.get("modelStatus", {}).get("states", {}).get("targetModelState") == "Loading"
        ),
    )
    assert not is_ready(status)
    assert "address" not in status


def test_a_service_that_stops_answering_is_not_ready_any_more(machine: Machine) -> None:
    serve(
        machine,
        readinessProbe={
            "httpGet": {"path": "/ready", "port": "http1"},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    )
    machine.url_of_ready("heart-3")
    (file,) = machine.root.glob("pods/*/volumes/*/ready")
    file.unlink()
    machine.service("heart-3", lambda status: not is_ready(status))
    file.write_text("again")
    machine.service("heart-3", is_ready)
    assert main_container(machine)["restartCount"] == 0


def test_a_digest_mismatch_is_reported_in_the_model_status(machine: Machine) -> None:
    serve(machine, service(uri="mlflow://heart/3?sha256=bad"))
    status = machine.service(
        "heart-3", lambda seen: seen.get("modelStatus", {}).get("lastFailureInfo")
    )
    assert status["modelStatus"] == {
        "transitionStatus": "BlockedByFailedLoad",
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": {
            "reason": "ModelLoadFailed",
            "exitCode": 3,
            "message": "digest mismatch: model.onnx has other bytes",
        },
    }
    assert not is_ready(status)
    crash = until(lambda: list(machine.crashes), len)[0]
    assert str(crash) == (
        "InferenceService heart-3: storage-initializer ended with 3: digest mismatch: "
        "model.onnx has other bytes"
    )
    assert list(machine.root.glob("pods/*/logs/kserve-container.log")) == []


def test_without_a_termination_log_the_end_of_the_output_is_the_message(machine: Machine) -> None:
    machine.cluster.apply(runtime())
    machine.cluster.apply(storage("print('one'); raise SystemExit('no such version')"))
    machine.cluster.apply(service())
    status = machine.service(
        "heart-3", lambda seen: seen.get("modelStatus", {}).get("lastFailureInfo")
    )
    assert "no such version" in status["modelStatus"]["lastFailureInfo"]["message"]


def test_a_crashed_runtime_is_reported_and_restarted(machine: Machine) -> None:
    serve(machine)
    url = machine.url_of_ready("heart-3")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        read(f"{url}/die")
    crash = until(lambda: list(machine.crashes), len)[0]
    assert (crash.kind, crash.name, crash.container, crash.exit_code) == (
        "InferenceService",
        "heart-3",
        "kserve-container",
        7,
    )
    assert crash.message.endswith("I was asked to die")
    until(
        lambda: main_container(machine),
        lambda seen: seen.get("restartCount") == 1 and seen["ready"],
    )
    assert machine.url_of_ready("heart-3") == url
    assert read(f"{url}/ready") == "yes"


def test_a_runtime_that_never_starts_is_restarted_with_growing_delays(
    patient_machine: Machine,
) -> None:
    machine = patient_machine
    serve(machine, code="raise SystemExit(5)")
    waits: set[str] = set()

    def messages() -> set[str]:
        waits.add(main_container(machine).get("state", {}).get("waiting", {}).get("message", ""))
        return waits

    until(
        messages,
        lambda seen: (
            {f"back-off {wait}s restarting failed container" for wait in (1, 2, 4)} <= seen
        ),
    )
    status = machine.service("heart-3", lambda seen: "ended with 5" in str(seen.get("conditions")))
    assert status["modelStatus"]["transitionStatus"] == "InProgress"


@pytest.mark.slow
def test_a_runtime_that_was_healthy_is_restarted_immediately(tmp_path: Path) -> None:
    forgiving = KubeletOptions(
        backoff=Backoff(first=60, longest=60, reset_after=0.3), turn_seconds=0.1
    )
    machine = Machine(tmp_path / "state", forgiving)
    machine.start()
    try:
        serve(machine)
        for restarts in range(3):
            healthy = up_after(machine, restarts)
            began = psutil.Process(healthy.pid).create_time()
            until(lambda began=began: time.time() - began, lambda age: age > 0.5)  # type: ignore[misc]
            os.kill(healthy.pid, signal.SIGKILL)
        up_after(machine, 3)
        assert [crash.exit_code for crash in machine.crashes] == [137, 137, 137]
    finally:
        machine.stop()
        machine.cluster.close()


@pytest.mark.slow
def test_a_runtime_that_hangs_is_restarted_by_its_liveness(machine: Machine) -> None:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}
    serve(
        machine,
        startupProbe={**probe, "failureThreshold": 300},
        livenessProbe={**probe, "failureThreshold": 2, "timeoutSeconds": 3},
    )
    machine.url_of_ready("heart-3")
    stuck = process_of(main_container(machine))
    os.kill(stuck.pid, signal.SIGSTOP)
    again = until(
        lambda: main_container(machine),
        lambda seen: seen.get("restartCount") == 1 and seen["ready"],
    )
    assert process_of(again) != stuck
    assert again["lastState"]["terminated"]["reason"] == "liveness probe failed"
    assert not runs(stuck)


def test_a_runtime_that_does_not_start_is_restarted_by_its_startup_probe(machine: Machine) -> None:
    probe = {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    serve(machine, code="import time; time.sleep(600)", startupProbe=probe)
    seen = until(lambda: main_container(machine), lambda seen: seen.get("restartCount", 0) >= 1)
    assert seen["lastState"]["terminated"]["reason"] == "startup probe failed"


def test_a_deleted_service_leaves_no_process_and_no_file(machine: Machine) -> None:
    serve(machine)
    machine.url_of_ready("heart-3")
    process = process_of(main_container(machine))
    machine.cluster.delete(INFERENCE_SERVICE, "heart-3")
    until(lambda: runs(process), lambda running: not running)
    until(lambda: list(machine.root.glob("pods/*")), lambda left: not left)


@pytest.mark.slow
def test_a_process_that_ignores_sigterm_is_killed_with_its_children_after_the_grace_period(
    machine: Machine,
) -> None:
    stubborn = SERVER.replace(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); import subprocess;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(child.pid, flush=True)",
    )
    serve(machine, code=stubborn)
    machine.url_of_ready("heart-3")
    process = process_of(main_container(machine))
    child = psutil.Process(int(next(machine.cluster.logs(INFERENCE_SERVICE, "heart-3"))))
    began = time.monotonic()
    machine.cluster.delete(INFERENCE_SERVICE, "heart-3")
    until(lambda: runs(process), lambda running: not running)
    assert time.monotonic() - began > 2.5
    until(child.is_running, lambda running: not running)


def test_a_changed_service_serves_until_the_new_pod_is_ready(machine: Machine) -> None:
    serve(machine)
    old = machine.url_of_ready("heart-3")
    machine.cluster.apply(service(uri="mlflow://heart/3?sha256=bad"))
    machine.service("heart-3", lambda seen: seen.get("observedGeneration") == 2)
    until(lambda: list(machine.crashes), len)
    assert read(f"{old}/uri") == "mlflow://heart/3?sha256=abc"
    assert is_ready(machine.service("heart-3", lambda _: True))
    machine.cluster.apply(service(uri="mlflow://heart/3?sha256=new"))
    new = str(
        machine.service("heart-3", lambda seen: seen.get("address", {}).get("url", old) != old)[
            "address"
        ]["url"]
    )
    assert read(f"{new}/uri") == "mlflow://heart/3?sha256=new"
    until(lambda: machine.cluster.list(POD), lambda pods: len(pods) == 1)


def test_a_pod_has_the_resources_variables_labels_and_annotations_of_its_service(
    machine: Machine,
) -> None:
    manifest = service(
        env=[{"name": "THREADS", "value": "$$(HOME)"}],
        resources={"requests": {"cpu": "1"}, "limits": {"cpu": "1", "nvidia.com/gpu": "1"}},
    )
    manifest["spec"]["predictor"] |= {
        "labels": {"example.org/team": "risk"},
        "annotations": {"example.org/cost-centre": "7"},
        # There is one node.
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "online",
        "serviceAccountName": "puller",
    }
    usual = {"requests": {"cpu": "100m", "memory": "1Gi"}}
    code = f"import os; print(os.environ['THREADS'], flush=True)\n{SERVER}"
    serve(machine, manifest, resources=usual, code=code)
    machine.url_of_ready("heart-3")
    (pod,) = machine.cluster.list(POD, {"example.org/team": "risk"})
    assert pod["metadata"]["annotations"] == {"example.org/cost-centre": "7"}
    assert pod["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "1", "nvidia.com/gpu": "1"},
    }
    assert next(iter(machine.cluster.logs(INFERENCE_SERVICE, "heart-3"))) == "$(HOME)"


def test_a_changed_label_of_the_pods_replaces_them(machine: Machine) -> None:
    serve(machine)
    old = machine.url_of_ready("heart-3")
    labelled = service()
    labelled["spec"]["predictor"]["labels"] = {"example.org/team": "risk"}
    machine.cluster.apply(labelled)
    machine.service("heart-3", lambda seen: seen.get("address", {}).get("url", old) != old)
    (pod,) = until(lambda: machine.cluster.list(POD), lambda pods: len(pods) == 1)
    assert pod["metadata"]["labels"]["example.org/team"] == "risk"


def test_an_object_that_is_created_after_the_deletion_of_its_owner_is_deleted(
    machine: Machine,
) -> None:
    owner = machine.cluster.apply(model())
    machine.cluster.delete(MODEL, "heart")
    late = service()
    metadata = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "heart"}
    late["metadata"]["ownerReferences"] = [{**reference, "uid": metadata["uid"]}]
    serve(machine, late)
    until(lambda: machine.cluster.list(INFERENCE_SERVICE), lambda found: found == [])
    until(lambda: machine.cluster.list(POD), lambda found: found == [])


def test_a_change_of_scale_restarts_nothing(machine: Machine) -> None:
    serve(machine)
    machine.url_of_ready("heart-3")
    process = process_of(main_container(machine))
    wider = service()
    wider["spec"]["predictor"]["maxReplicas"] = 5
    machine.cluster.apply(wider)
    machine.service("heart-3", lambda seen: seen.get("observedGeneration") == 2)
    assert process_of(main_container(machine)) == process


@pytest.mark.parametrize(
    ("manifest", "reason", "words"),
    [
        (service(runtime="other"), "RuntimeNotRecognized", "other"),
        (service(modelFormat={"name": "strange"}), "NoSupportingRuntime", "strange"),
        (
            service(modelFormat={"name": "strange"}, runtime=RUNTIME),
            "NoSupportingRuntime",
            f"{RUNTIME!r} does not list format 'strange'",
        ),
        (
            service(protocolVersion="v1", runtime=RUNTIME),
            "NoSupportingRuntime",
            f"{RUNTIME!r} does not list protocol 'v1'",
        ),
        (service(uri="s3://bucket/heart"), "StorageURINotSupported", "s3://bucket/heart"),
    ],
)
def test_an_unresolved_service_reports_its_reason(
    machine: Machine, manifest: Manifest, reason: str, words: str
) -> None:
    serve(machine, manifest)
    status = machine.service("heart-3", lambda seen: seen.get("conditions"))
    assert not is_ready(status)
    failure = status["modelStatus"]["lastFailureInfo"]
    assert failure["reason"] == reason
    assert words in failure["message"]


def test_a_service_waits_for_its_runtime(machine: Machine) -> None:
    machine.cluster.apply(service())
    machine.service("heart-3", lambda seen: seen.get("conditions"))
    machine.cluster.apply(runtime())
    machine.cluster.apply(storage())
    machine.url_of_ready("heart-3")


def test_an_unknown_image_is_reported(machine: Machine) -> None:
    serve(machine, image="other:1")
    machine.service(
        "heart-3", lambda seen: "image 'other:1' is not among" in str(seen.get("conditions"))
    )


def test_a_missing_program_is_reported(machine: Machine) -> None:
    serve(machine, command=["no-such-program"])
    machine.service(
        "heart-3", lambda seen: "cannot start no-such-program" in str(seen.get("conditions"))
    )


def test_the_log_is_limited_in_size(machine: Machine) -> None:
    noisy = "import itertools\nfor i in itertools.count(): print('x' * 1000, i)"
    serve(machine, code=noisy)

    def size() -> int:
        return sum(
            file.stat().st_size
            for file in Path(machine.root).glob("pods/*/logs/*")
            if file.exists()
        )

    until(lambda: list(machine.root.glob("pods/*/logs/kserve-container.log.1")), len)
    machine.cluster.delete(INFERENCE_SERVICE, "heart-3")
    until(lambda: list(machine.root.glob("pods/*")), lambda left: not left)
    assert size() == 0
