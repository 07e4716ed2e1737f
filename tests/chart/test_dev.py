"""``make dev``: skaffold can write the sources of every synced container."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.chart.chart import CHARTS, KIND_VALUES, Object, Rendering, render

ROOT = CHARTS.parent
SKAFFOLD = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
TAG = "0123456789abcdef"


def profile(name: str) -> list[Object]:
    (found,) = [each for each in SKAFFOLD["profiles"] if each["name"] == name]
    patches: list[Object] = found["patches"]
    return patches


def artifact(path: str) -> str:
    """Return the image of the artifact that a patch changes: ``/build/artifacts/0/sync``."""
    image: str = SKAFFOLD["build"]["artifacts"][int(path.split("/")[3])]["image"]
    return image


ARTIFACTS = [
    *SKAFFOLD["build"]["artifacts"],
    *[each["value"] for each in profile("kind") if each["path"] == "/build/artifacts/-"],
]
SYNCED = {
    artifact(each["path"]): each["value"]
    for each in profile("dev")
    if each["path"].endswith("/sync")
}


@pytest.fixture(scope="module")
def rendering(helm: str) -> Rendering:  # noqa: ARG001 - requires helm
    """Render the chart with skaffold's image names, through the post-renderer."""
    templates = dict(SKAFFOLD["deploy"]["helm"]["releases"][0]["setValueTemplates"])
    for each in profile("dev"):
        if "/setValueTemplates/" in each["path"]:
            templates[each["path"].rpartition("/")[2]] = each["value"]
    repositories = {
        name: re.sub(r"\{\{\.IMAGE_REPO_slipway_(\w+)}}", r"slipway/\1", value)
        for name, value in templates.items()
    }
    settings = [
        f"{name}={re.sub(r'{{.IMAGE_TAG_.*}}', TAG, value)}" for name, value in repositories.items()
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "manifests" / "dev" / "render.py"],
        input=render(KIND_VALUES, *settings).text,
        env=os.environ | {"DEV_SESSION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Rendering(done.stdout)


def mounted(pod: Object, container: Object, path: str) -> Object:
    """Return the mount at a path merged with its volume; empty if there is none."""
    mount = next(
        (each for each in container.get("volumeMounts", []) if each["mountPath"] == path), None
    )
    return (
        {}
        if mount is None
        else next(each for each in pod["volumes"] if each["name"] == mount["name"]) | mount
    )


def containers(rendering: Rendering) -> list[tuple[str, Any, Any]]:
    """Return owner, pod and container of the running pods; the Jobs of the release have ended."""
    pods = [pod for pod in rendering.pods if not pod.owner.startswith("Job ")]
    return [(pod.owner, pod.spec, each) for pod in pods for each in pod.spec["containers"]]


def test_all_components_that_change_have_their_sources_synced() -> None:
    assert SYNCED.keys() == {"slipway/gateway", "slipway/controller", "slipway/jobs"}


@pytest.mark.parametrize("image", SYNCED)
def test_every_container_of_a_synced_image_can_be_written(rendering: Rendering, image: str) -> None:
    synced = [each for each in containers(rendering) if each[2]["image"] == f"{image}:{TAG}"]
    assert synced, "skaffold would copy into no container"
    for owner, pod, container in synced:
        for rule in SYNCED[image]["manual"]:
            assert mounted(pod, container, rule["dest"]).get("readOnly") is False, (
                f"{owner} cannot be written at {rule['dest']}"
            )


def test_the_worker_is_synced_with_the_gateway(rendering: Rendering) -> None:
    owners = {
        owner
        for owner, _, container in containers(rendering)
        if container["image"] == f"slipway/gateway:{TAG}"
    }
    assert {"Deployment slipway-gateway", "Deployment slipway-worker"} <= owners


def test_programs_that_are_restarted_run_from_the_synced_sources(rendering: Rendering) -> None:
    for image in (each for each, sync in SYNCED.items() if "hooks" in sync):
        for owner, _, container in containers(rendering):
            if container["image"] == f"{image}:{TAG}":
                shell, option, script, _, mode, *command = container["command"]
                assert (shell, option, mode, command[:2]) == (
                    "sh",
                    "-c",
                    "restart",
                    ["python", "-m"],
                ), owner
                assert "export PYTHONPATH=/sources" in script
                assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_jobs_read_the_volume_that_is_written_in_the_pod_of_mlflow(rendering: Rendering) -> None:
    (written,) = [
        each for each in containers(rendering) if each[2]["image"] == f"slipway/jobs:{TAG}"
    ]
    claim = mounted(written[1], written[2], "/sources")["persistentVolumeClaim"]["claimName"]
    assert claim in rendering.of("PersistentVolumeClaim")
    jobs = [
        each
        for each in containers(rendering)
        if each[2].get("command") == ["python", "-m", "slipway_jobs"]
    ]
    assert jobs
    for owner, pod, container in jobs:
        sources = mounted(pod, container, "/sources")
        assert sources["persistentVolumeClaim"]["claimName"] == claim, owner
        assert sources["readOnly"] is True
        assert {"name": "PYTHONPATH", "value": "/sources"} in container["env"]


def test_predictors_are_those_of_the_chart(rendering: Rendering) -> None:
    (runtime,) = rendering.of("ClusterServingRuntime").values()
    assert "/sources" not in str(runtime)


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact["image"])
def test_an_image_is_a_target_of_the_dockerfile(artifact: Object) -> None:
    name = artifact["image"].removeprefix("slipway/")
    assert artifact["custom"]["buildCommand"] == f"manifests/build-images {name}"
    assert f" AS {name}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("artifact", ARTIFACTS, ids=lambda artifact: artifact["image"])
def test_the_files_that_skaffold_watches_are_those_that_the_target_copies(artifact: Object) -> None:
    watched = sources(artifact)
    assert ["Dockerfile" in watched, ".dockerignore" in watched] == [True, True]
    name = artifact["image"].removeprefix("slipway/")
    copied = {
        path
        for stage in stages(name)
        for path in re.findall(r"^COPY (?!--from)(.+) \S+$", stage, re.MULTILINE)
    }
    for path in " ".join(copied).split():
        assert any(file == path or file.startswith(f"{path}/") for file in watched), path
    folders = {file.split("/")[0] for file in watched if "/" in file}
    assert folders == {path.split("/")[0] for path in " ".join(copied).split()} | {
        "requirements",
        "manifests",
    }


@pytest.mark.parametrize("image", SYNCED)
def test_skaffold_watches_every_file_that_it_syncs(image: str) -> None:
    (artifact,) = [each for each in ARTIFACTS if each["image"] == image]
    for rule in SYNCED[image]["manual"]:
        synced = {str(file.relative_to(ROOT)) for file in ROOT.glob(rule["src"])}
        assert synced
        assert synced <= sources(artifact)


def sources(artifact: Object) -> set[str]:
    """Return the files that skaffold watches for an artifact, relative to the repository's root."""
    command = artifact["custom"]["dependencies"]["command"].split()
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return set(json.loads(listed))


def stages(target: str) -> list[str]:
    """Return the text of a target's stage and of those that it stands on or copies from."""
    text = (ROOT / "Dockerfile").read_text()
    (stage,) = re.findall(rf"^FROM \S+ AS {target}\n(?:(?!^FROM ).*\n)*", text, re.MULTILINE)
    names = set(re.findall(r" AS (\S+)\n", text))
    needed = re.findall(r"(?:^FROM |--from=)(\S+)", stage, re.MULTILINE)
    return [
        stage,
        *(each for name in dict.fromkeys(needed) if name in names for each in stages(name)),
    ]
