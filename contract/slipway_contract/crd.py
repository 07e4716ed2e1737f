"""The CustomResourceDefinition of ``Model``, generated from the pydantic types."""

from typing import Any

from slipway_contract.docstring import one_line
from slipway_contract.labels import GROUP
from slipway_contract.model import Model, ModelSpec, ModelStatus

# Kubernetes requires a structural schema: no $ref, title, const, and no additionalProperties beside
# properties.
_DROPPED = {"title", "additionalProperties", "$defs", "propertyNames"}


def crd() -> dict[str, Any]:
    """Return the definition as Kubernetes JSON."""
    schema = {
        "type": "object",
        "description": one_line(Model.__doc__),
        "required": ["spec"],
        "properties": {
            "spec": structural(ModelSpec.model_json_schema()),
            "status": structural(ModelStatus.model_json_schema()),
        },
    }
    columns = [
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        },
        {
            "name": "Version",
            "type": "string",
            "jsonPath": '.status.traffic[?(@.role=="live")].version',
        },
        {
            "name": "Reason",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        },
        {"name": "Rollback", "type": "string", "jsonPath": ".status.rollback.state"},
        {"name": "Owner", "type": "string", "jsonPath": ".spec.owner"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {
            "name": "Runtime",
            "type": "string",
            "jsonPath": ".spec.predictor.runtime",
            "priority": 1,
        },
        {
            "name": "Schedule",
            "type": "string",
            "jsonPath": ".spec.training.job.schedule",
            "priority": 1,
        },
        {
            "name": "Description",
            "type": "string",
            "jsonPath": ".spec.description",
            "priority": 1,
        },
    ]
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"models.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "Model",
                "plural": "models",
                "singular": "model",
                "shortNames": ["mdl"],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a pydantic JSON schema as a Kubernetes structural schema.

    References are inlined and ``X | None`` becomes nullable.
    """
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    if "anyOf" in node:
        (kind,) = [option for option in node["anyOf"] if option != {"type": "null"}]
        rest = {
            k: v
            for k, v in node.items()
            if k not in ("anyOf", "default") or (k == "default" and v is not None)
        }
        return {**_structural({**kind, **rest}, definitions), "nullable": True}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _structural(child, definitions) for name, child in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            result[key] = _structural(value, definitions)
        elif key == "description":
            result[key] = one_line(value)
        elif key == "const":
            result["enum"] = [value]
        elif key == "patternProperties":  # a structural schema has no patterns of keys
            (child,) = value.values()
            result["additionalProperties"] = _structural(child, definitions)
        elif key not in _DROPPED:
            result[key] = value
    return result
