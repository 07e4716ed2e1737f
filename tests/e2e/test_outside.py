"""A project outside of the checkout on the cluster: its image, its Model, its schedule."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CLUSTER, KindStack, kubectl, objects
from tests.support.outside import MODEL, SWEEP, build_wheels, installed_shell, new_project, walk
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(1200)

IMAGE = f"{MODEL}:1"
RESOURCES = {
    "requests": {"cpu": "60m", "memory": "300Mi"},
    "limits": {"cpu": "900m", "memory": "700Mi"},
}
JOB = {
    "image": IMAGE,
    "args": ["python", "-m", "slipway_jobs", *SWEEP],
    "resources": RESOURCES,
    "schedule": "*/2 * * * *",
    "timeZone": "Europe/Berlin",
}
SPEC = {
    "predictor": {"resources": RESOURCES},
    "scale": {"minReplicas": 1, "maxReplicas": 1},
    "training": {"job": JOB},
}


@pytest.fixture
def declared(stack: KindStack, tmp_path: Path) -> Iterator[None]:
    """Apply the project's Model and go its whole way; delete the Model afterwards."""
    assert stack.mlflow_login
    variables = {
        "KUBECONFIG": os.environ["KUBECONFIG"],
        "DOCKER_BUILDKIT": "1",
        "MLFLOW_TRACKING_USERNAME": stack.mlflow_login[0],
        "MLFLOW_TRACKING_PASSWORD": stack.mlflow_login[1],
    }
    wheels = build_wheels(tmp_path / "wheels")
    shell = installed_shell(tmp_path, wheels, stack, variables, os.environ["PATH"])
    new_project(shell, SPEC)
    build = f"docker build --quiet --build-arg BASE=slipway/jobs:dev --tag {IMAGE} {MODEL}"
    try:
        shell.run(f"{build} && kind load docker-image --name {CLUSTER} {IMAGE}")
        walk(stack, shell, f"kubectl apply --namespace slipway --filename {MODEL}/model.yaml")
        assert len(shell.commands) <= 10, shell.commands
        yield
    finally:
        kubectl("delete", "model", MODEL, "--ignore-not-found")
        shell.run(f"docker image rm --force {IMAGE}")
    wait_for(
        "the end of its predictors and trainings",
        lambda: not objects("inferenceservices,cronjobs", f"slipway.dev/model={MODEL}"),
        START_SECONDS,
    )


@pytest.mark.usefixtures("declared")
def test_a_project_of_the_wheel_lives_on_the_cluster_as_its_model_declares() -> None:
    spec = _training()["spec"]
    assert (spec["schedule"], spec["timeZone"]) == (JOB["schedule"], JOB["timeZone"])
    assert spec["suspend"] is False
    (job,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert {key: job[key] for key in ("image", "args")} == {
        key: JOB[key] for key in ("image", "args")
    }
    assert _chosen(job) == RESOURCES
    servers = [
        each
        for pod in objects("pods", f"serving.kserve.io/inferenceservice={MODEL}-1")
        for each in pod["spec"]["containers"]
        if each["name"] == "kserve-container"
    ]
    assert servers
    assert [_chosen(each) for each in servers] == [RESOURCES] * len(servers)

    kubectl("patch", "cronjob", f"train-{MODEL}", "--patch", '{"spec": {"schedule": "@yearly"}}')
    other = {"spec": {"predictor": {"model": {"resources": {"limits": {"cpu": "300m"}}}}}}
    kubectl(
        "patch", "inferenceservice", f"{MODEL}-1", "--type", "merge", "--patch", json.dumps(other)
    )
    wait_for(
        "the declared schedule",
        lambda: _training()["spec"]["schedule"] == JOB["schedule"],
        START_SECONDS,
    )
    wait_for(
        "the declared resources",
        lambda: _chosen(_service("1")["spec"]["predictor"]["model"]) == RESOURCES,
        START_SECONDS,
    )


def _chosen(container: dict[str, Any]) -> dict[str, Any]:
    """Return CPU and memory of a container."""
    found: dict[str, dict[str, str]] = container["resources"]
    return {
        kind: {name: found[kind][name] for name in ("cpu", "memory")}
        for kind in ("requests", "limits")
    }


def _training() -> dict[str, Any]:
    return _object("cronjob", f"train-{MODEL}")


def _service(version: str) -> dict[str, Any]:
    return _object("inferenceservice", f"{MODEL}-{version}")


def _object(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "--output", "json").stdout)
    return found
