"""Objects of the local stack from the rendered chart: ``make local-objects``.

The rendering comes on standard input, the selected objects go to standard output as JSON.
"""

import json
import sys
from typing import Any

import yaml

KINDS = ("ClusterServingRuntime", "ClusterStorageContainer", "CronJob", "Deployment")
CONFIG_MAPS = ("slipway-identity", "slipway-mlflow")
VERSION_LABELS = ("app.kubernetes.io/version", "helm.sh/chart")


def selected(rendering: str) -> list[dict[str, Any]]:
    """Return the objects that the local stack runs, without labels of the chart's version."""
    objects = [each for each in yaml.safe_load_all(rendering) if each]
    found = [
        each
        for each in objects
        if each["kind"] in KINDS
        or (each["kind"] == "ConfigMap" and each["metadata"]["name"] in CONFIG_MAPS)
    ]
    for each in found:
        for label in VERSION_LABELS:
            each["metadata"]["labels"].pop(label)
    return found


def written(objects: list[dict[str, Any]]) -> str:
    """Return the content of the file."""
    return json.dumps(objects, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written(selected(sys.stdin.read())))
