"""Writes the JSON schemas with which kubeconform validates the chart's objects, without a network.

Kubernetes' own kinds come from the types of the installed ``kubernetes`` client, ``Model`` from its
definition, and the kinds of others (KServe, Gateway API, Prometheus operator) from
``charts/schemas/*.yaml``: strict, with only the fields that the chart uses. ``python
charts/schemas.py FOLDER`` writes ``FOLDER/GROUP/kind_version.json``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client
from pydantic.json_schema import models_json_schema

HERE = Path(__file__).parent

KINDS = {
    "v1": ["ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["CronJob", "Job"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding"],
    "apiextensions.k8s.io/v1": ["CustomResourceDefinition"],
}


def types(*names: str) -> dict[str, Any]:
    """Return the definitions of the client's types with these names, and of the types they use.

    Unknown fields of a type are rejected.
    """
    definitions: dict[str, Any] = models_json_schema(
        [(getattr(client, name), "validation") for name in names]
    )[1]["$defs"]
    return definitions


def of_kind(api_version: str, kind: str) -> dict[str, Any]:
    """Return the schema of an object of a kind of Kubernetes."""
    name = f"{api_version.rsplit('/', 1)[-1].capitalize()}{kind}"
    stated = {
        "properties": {"apiVersion": {"const": api_version}, "kind": {"const": kind}},
        "required": ["apiVersion", "kind"],
    }
    return {"allOf": [{"$ref": f"#/$defs/{name}"}, stated], "$defs": types(name)}


def of_definition(crd: dict[str, Any]) -> dict[str, Any]:
    """Return the strict schema of a custom resource from its definition."""
    body = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    closed = _closed(body)
    closed["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    return closed


def _closed(node: dict[str, Any]) -> dict[str, Any]:
    node = {key: value for key, value in node.items() if key not in ("nullable", "description")}
    if "properties" in node:
        node["properties"] = {name: _closed(child) for name, child in node["properties"].items()}
        node.setdefault("additionalProperties", False)
    if isinstance(node.get("items"), dict):
        node["items"] = _closed(node["items"])
    return node


def of_others(text: str) -> dict[str, Any]:
    """Return the schema of another project's kind; ``$ref: V1Pod`` is a type of the client."""
    used: set[str] = set()

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            used.add(node["$ref"])
            return {"$ref": f"#/$defs/{node['$ref']}"}
        return {key: resolve(value) for key, value in node.items()}

    top: dict[str, Any] = resolve(yaml.safe_load(text))
    return top | {"$defs": types(*sorted(used))}


def all_schemas() -> dict[str, dict[str, Any]]:
    """Return every schema by its path below the folder."""
    found = {}
    for api_version, kinds in KINDS.items():
        group, version = api_version.rpartition("/")[::2]
        for kind in kinds:
            found[f"{group or version}/{kind.lower()}_{version}.json"] = of_kind(api_version, kind)
    crd = yaml.safe_load((HERE / "slipway" / "files" / "models.crd.yaml").read_text())
    group, (version, *_) = crd["spec"]["group"], crd["spec"]["versions"]
    found[f"{group}/{crd['spec']['names']['singular']}_{version['name']}.json"] = of_definition(crd)
    for file in sorted((HERE / "schemas").glob("*/*.yaml")):
        found[f"{file.parent.name}/{file.stem}.json"] = of_others(file.read_text())
    return found


def main() -> int:
    """Write all schemas into the folder of the first argument."""
    folder = Path(sys.argv[1])
    for name, schema in all_schemas().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema))
    return 0


if __name__ == "__main__":
    sys.exit(main())
