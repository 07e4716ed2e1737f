"""Renderings of the chart: ``helm template`` in a process, and its objects."""

import base64
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

CHARTS = Path(__file__).parents[2] / "charts"
CHART = CHARTS / "slipway"
KIND_VALUES = CHARTS.parent / "manifests" / "kind-values.yaml"
PARAMETERS = CHARTS.parent / "examples" / "parameters.json"
"""Values with the schemas of the examples' parameters."""
VALUES = sorted((CHART / "ci").glob("*.yaml")) + [KIND_VALUES] * KIND_VALUES.exists()

Object = dict[str, Any]


class Refused(Exception):
    """Helm failed; the message is its output."""


@dataclass(frozen=True)
class PodTemplate:
    """A pod template of an object; KServe's two objects also contain containers."""

    owner: str
    labels: dict[str, str]
    spec: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]


@dataclass(frozen=True)
class Rendering:
    """All objects of a release."""

    text: str

    @cached_property
    def objects(self) -> list[Object]:
        return [each for each in yaml.safe_load_all(self.text) if each]

    def of(self, kind: str) -> dict[str, Object]:
        """Return the objects of a kind, by name."""
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    @property
    def pods(self) -> list[PodTemplate]:
        return list(self._pods())

    def _pods(self) -> Iterator[PodTemplate]:
        for each in self.objects:
            name = f"{each['kind']} {each['metadata']['name']}"
            match each["kind"]:
                case "Deployment" | "StatefulSet" | "Job":
                    yield _pod(name, each["spec"]["template"])
                case "CronJob":
                    yield _pod(name, each["spec"]["jobTemplate"]["spec"]["template"])
                case "Pod":
                    yield _pod(name, each)
                case "ClusterServingRuntime":
                    yield PodTemplate(name, {}, each["spec"])
                case "ClusterStorageContainer":
                    yield PodTemplate(name, {}, {"containers": [each["spec"]["container"]]})

    @property
    def secrets(self) -> dict[str, str]:
        """Every value of every Secret, by ``name/key``."""
        return {
            f"{name}/{key}": base64.b64decode(value).decode()
            for name, secret in self.of("Secret").items()
            for key, value in secret["data"].items()
        }


def _pod(owner: str, template: Object) -> PodTemplate:
    return PodTemplate(owner, template["metadata"].get("labels", {}), template["spec"])


def render(values: Path | None = None, *settings: str, more: Path | None = None) -> Rendering:
    """Run ``helm template`` for release and namespace ``slipway``. Raises Refused."""
    command = ["helm", "template", "slipway", str(CHART), "--namespace", "slipway"]
    for file in filter(None, (values, more)):
        command += ["--values", str(file)]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return Rendering(done.stdout)


def environment(container: Object) -> dict[str, str]:
    """Return the container's variables; one from a Secret is a text of some length."""
    return {each["name"]: each.get("value", "x" * 32) for each in container.get("env", [])}


UNITS = {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}


def quantity(text: str) -> float:
    """Return the number of CPUs or bytes of ``50m``, ``1``, ``192Mi``."""
    found = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|)", str(text))
    if found is None:
        raise ValueError(text)
    return float(found[1]) * UNITS[found[2]]
