#!/usr/bin/env python3
"""Post-render the chart for ``make dev``: programs run from a copy of their sources that skaffold
can write.

Reads the objects of a release from standard input and writes them to standard output. What a
container runs decides what it gets, and not its name: every component that shares an image with
another is covered. The images, and their read-only root file systems, stay those of ``make kind``.

- A long-running program of ours has a copy in its pod, and starts again when skaffold ends it after
  a change.
- A Job starts after the change. It reads a volume that skaffold writes in the pod of MLflow, which
  runs the same image.

``DEV_SESSION`` names the session: pods of another one start anew, from the sources in their images.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

CLAIM = "slipway-dev-sources-{session}"
"""A claim that Jobs of an earlier session still hold is being deleted, and could not be used."""
SOURCES = "/sources"
PROGRAM = (Path(__file__).parent / "program").read_text()

Object = dict[str, Any]


def main() -> None:
    """Read from standard input, write to standard output."""
    session = os.environ["DEV_SESSION"]
    objects = [each for each in yaml.safe_load_all(sys.stdin) if each]
    for each in objects:
        if template := pod_template(each):
            develop(template, session)
    yaml.safe_dump_all([*objects, claim(session)], sys.stdout)


def pod_template(manifest: Object) -> Object | None:
    """Return the pod template of a workload, None for other objects."""
    match manifest["kind"]:
        case "Deployment" | "StatefulSet":
            template: Object = manifest["spec"]["template"]
        case "CronJob":
            template = manifest["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return None
    return template


def develop(template: Object, session: str) -> None:
    """Let the containers of a pod template run from ``/sources``, in place."""
    for container in template["spec"]["containers"]:
        match container.get("command"):
            case ["python", "-m", "slipway_jobs", *_]:
                mount(template, container, shared(session, read_only=True), read_only=True)
                container.setdefault("env", []).append({"name": "PYTHONPATH", "value": SOURCES})
            case ["python", "-m", module, *_] if module.startswith("slipway_"):
                mount(template, container, {"emptyDir": {"sizeLimit": "64Mi"}})
                wrap(template, container, session, "restart")
            case ["mlflow", "server"]:
                mount(template, container, shared(session))
                wrap(template, container, session, "once")


def mount(template: Object, container: Object, source: Object, *, read_only: bool = False) -> None:
    """Mount a volume of this source at ``/sources``."""
    template["spec"].setdefault("volumes", []).append({"name": "sources", **source})
    container.setdefault("volumeMounts", []).append(
        {"name": "sources", "mountPath": SOURCES, "readOnly": read_only}
    )


def shared(session: str, *, read_only: bool = False) -> Object:
    """Return the source of the volume that Jobs share with the pod of MLflow."""
    return {
        "persistentVolumeClaim": {"claimName": CLAIM.format(session=session), "readOnly": read_only}
    }


def wrap(template: Object, container: Object, session: str, mode: str) -> None:
    """Put the script ``program`` before the command of a container. Its pod is replaced when the
    session is another.
    """
    # A start is seconds of one CPU: a limit would make them twice as many after each change.
    container.get("resources", {}).get("limits", {}).pop("cpu", None)
    container["command"] = ["sh", "-c", PROGRAM, session, mode, *container["command"]]
    template["metadata"].setdefault("annotations", {})["slipway.dev/dev-session"] = session


def claim(session: str) -> Object:
    """Return the claim of the volume with the sources of Jobs."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM.format(session=session)},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}},
    }


if __name__ == "__main__":
    main()
