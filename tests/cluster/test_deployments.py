"""Deployments on the local cluster."""

import base64
import signal
import socket
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from slipway_cluster import Invalid, Manifest
from slipway_local.standin.process import ProcessId
from slipway_local.standin.workload import DEPLOYMENT

from tests.cluster.machine import Machine, read
from tests.cluster.manifests import container
from tests.support.processes import free_port
from tests.support.waiting import until

SERVER = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('end', flush=True), sys.exit(0)))
print('start', flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ.get('GREETING', '').encode())
    def log_message(self, *_):
        pass
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""
ORDER = """
import pathlib, signal, sys, time
def note(what):
    with open(sys.argv[1], 'a') as file:
        file.write(f'{sys.argv[2]} {what}\\n')
def end(*_):
    time.sleep(0.3)
    note('ends')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note('starts')
time.sleep(0.5)
pathlib.Path('/run/x/ready').touch()
signal.pause()
"""
"""Note start and end in a file; ready half a second after the start."""


def deployment(name: str, main: Manifest, pod: Manifest | None = None, **spec: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [main], "terminationGracePeriodSeconds": 60, **(pod or {})},
            },
            **spec,
        },
    }


def web(port: int, greeting: str = "hello", **spec: Any) -> Manifest:
    """Return a server on a fixed port."""
    main = container(
        SERVER,
        "8080",
        env=[{"name": "GREETING", "value": greeting}],
        ports=[{"containerPort": 8080, "hostPort": port}],
        readinessProbe={"httpGet": {"port": 8080}, "periodSeconds": 1},
    )
    return deployment("web", main, **spec)


def available(machine: Machine, name: str = "web") -> Manifest:
    return until(
        lambda: machine.cluster.get(DEPLOYMENT, name).get("status", {}),
        lambda status: status.get("readyReplicas") == 1,
    )


def test_a_deployment_serves_on_its_host_port(machine: Machine) -> None:
    port = free_port()
    machine.cluster.apply(web(port))
    status = available(machine)
    assert read(f"http://127.0.0.1:{port}/") == "hello"
    assert status["observedGeneration"] == 1
    assert [(c["type"], c["status"]) for c in status["conditions"]] == [("Available", "True")]
    assert list(machine.cluster.logs(DEPLOYMENT, "web")) == ["start"]
    assert (machine.root / "logs" / "web" / "main.log").read_text() == "start\n"


def test_a_killed_program_is_restarted_in_its_pod(machine: Machine) -> None:
    machine.cluster.apply(web(free_port()))
    available(machine)
    (pod,) = machine.cluster.pods(DEPLOYMENT, "web")
    process = ProcessId.parse(pod["status"]["containerStatuses"][0]["containerID"])
    assert process
    psutil.Process(process.pid).send_signal(signal.SIGKILL)
    restarted = until(
        lambda: machine.cluster.pods(DEPLOYMENT, "web")[0]["status"]["containerStatuses"][0],
        lambda seen: seen["restartCount"] == 1 and seen["ready"],
    )
    assert restarted["lastState"]["terminated"]["exitCode"] == 137
    assert [str(crash) for crash in machine.crashes] == [
        "Deployment web: main ended with 137: start"
    ]


def test_a_changed_program_replaces_the_old_one_on_the_same_port(machine: Machine) -> None:
    port, recreate = free_port(), {"type": "Recreate"}
    machine.cluster.apply(web(port, strategy=recreate))
    available(machine)
    machine.cluster.apply(web(port, "hello again", strategy=recreate))
    until(
        lambda: machine.cluster.get(DEPLOYMENT, "web")["status"],
        lambda status: status["observedGeneration"] == 2 and status["readyReplicas"] == 1,
    )
    assert read(f"http://127.0.0.1:{port}/") == "hello again"
    assert machine.crashes == []


def test_a_deployment_of_zero_replicas_has_no_process(machine: Machine) -> None:
    port = free_port()
    machine.cluster.apply(web(port))
    available(machine)
    machine.cluster.apply(web(port, replicas=0))
    until(lambda: machine.cluster.pods(DEPLOYMENT, "web"), lambda pods: not pods)
    with socket.socket() as client:
        until(lambda: client.connect_ex(("127.0.0.1", port)), lambda refused: refused)


def test_pods_start_and_stop_in_the_order_of_their_priorities(
    machine: Machine, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    machine.stop()
    for name, priority in (("gateway", 0), ("registry", 1), ("database", 2)):
        main = container(
            ORDER,
            str(notes),
            name,
            volumeMounts=[{"name": "run", "mountPath": "/run/x"}],
            startupProbe={"exec": {"command": ["test", "-e", "/run/x/ready"]}, "periodSeconds": 1},
        )
        volumes = [{"name": "run", "emptyDir": {}}]
        machine.cluster.apply(deployment(name, main, {"priority": priority, "volumes": volumes}))
    machine.start()
    available(machine, "gateway")
    machine.stop()
    assert notes.read_text().splitlines() == [
        "database starts",
        "registry starts",
        "gateway starts",
        "gateway ends",
        "registry ends",
        "database ends",
    ]


def test_a_deployment_survives_a_restart_of_the_kubelet(machine: Machine) -> None:
    port = free_port()
    machine.cluster.apply(web(port))
    available(machine)
    machine.stop()
    assert machine.cluster.get(DEPLOYMENT, "web")["status"]["readyReplicas"] == 0
    machine.start()
    available(machine)
    assert read(f"http://127.0.0.1:{port}/") == "hello"
    assert len(machine.cluster.pods(DEPLOYMENT, "web")) == 1


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        ({"periodSeconds": 1}, "needs either httpGet or exec"),
        ({"httpGet": {"port": "http"}}, "not among the container's ports"),
    ],
)
def test_a_probe_without_an_action_or_port_is_rejected(
    machine: Machine, probe: Manifest, problem: str
) -> None:
    with pytest.raises(Invalid, match=problem):
        machine.cluster.apply(deployment("web", container("pass", readinessProbe=probe)))


def test_a_container_waits_for_its_secret(machine: Machine) -> None:
    manifest = web(free_port())
    (main,) = manifest["spec"]["template"]["spec"]["containers"]
    greeting = {"secretKeyRef": {"name": "greetings", "key": "formal"}}
    main["env"] = [{"name": "GREETING", "valueFrom": greeting}]
    port = main["ports"][0]["hostPort"]
    machine.cluster.apply(manifest)
    until(lambda: machine.crashes, len)
    assert "128: Secret greetings has no key 'formal'" in str(machine.crashes[0])
    encoded = {"formal": base64.b64encode(b"good evening").decode()}
    machine.cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "greetings"}, "data": encoded}
    )
    available(machine)
    assert read(f"http://127.0.0.1:{port}/") == "good evening"
