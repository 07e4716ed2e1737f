#!/usr/bin/env python3
"""Post-render the chart for ``make dev``: programs run from a copy of their sources.

Reads the objects of a release from standard input and writes them to standard output. The command
of a container, not its name, selects the change: components that share an image with another are
covered. The images, and their read-only root file systems, are those of ``make kind``.

- A long-running program of Slipway has a copy in its pod, and restarts when skaffold ends it after
  a change.
- A Job starts after the change. It reads a volume that skaffold writes in the pod of MLflow, which
  runs the same image.

``DEV_SESSION`` names the session: pods of another one restart from the sources in their images.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

CLAIM = "slipway-dev-sources-{session}"
"""Name of a claim; that of an earlier session may still be in deletion and cannot be reused."""
SOURCES = "/sources"
PROGRAM = (Path(__file__).parent / "program").read_text()

Object = dict[str, Any]


def main() -> None:
    """Read objects from standard input and write them to standard output."""
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
    """Change a pod template in place so that its containers run from ``/sources``."""
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
    """Prefix a container's command with the script ``program``; a new session replaces its pod."""
    # A start needs seconds of CPU: a limit would double its duration after each change.
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
