"""The Model resource, and the CustomResourceDefinition made of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from slipway_contract.crd import crd
from slipway_contract.errors import explain_settings
from slipway_contract.model import Model
from slipway_contract.registry import ArtifactFormat

HEART: dict[str, Any] = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "heart"},
    "spec": {
        "registeredModel": "heart",
        "alias": "champion",
        "training": {"template": "train-heart"},
        "scale": {"minReplicas": 1, "maxReplicas": 4, "targetCPUUtilization": 70},
        "batching": {"maxBatchSize": 16, "maxBatchTime": 0.002},
        "rollout": {"steps": [10, 50], "stepSeconds": 60, "previousKept": 1},
    },
}


def with_spec(**spec: Any) -> dict[str, Any]:
    return {**HEART, "spec": {**HEART["spec"], **spec}}


def test_a_model_reads_what_it_writes() -> None:
    model = Model.model_validate(HEART)
    assert Model.model_validate(model.manifest()) == model
    assert model.manifest()["spec"]["scale"]["targetCPUUtilization"] == 70


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (with_spec(scale={"minReplicas": 3, "maxReplicas": 1}), "spec.scale"),
        (with_spec(scale={"minReplicas": 0}), "spec.scale.minReplicas"),
        (with_spec(batching={"maxBatchSize": 1}), "spec.batching.maxBatchSize"),
        (with_spec(batching={"maxBatchTime": "5ms"}), "spec.batching.maxBatchTime"),
        (with_spec(rollout={"steps": [50, 10]}), "spec.rollout"),
        (with_spec(rollout={"steps": [100]}), "spec.rollout.steps.0"),
        (with_spec(registredModel="heart"), "spec.registredModel"),
        (with_spec(allowFormats=["pickle"]), "spec.allowFormats.0"),
        ({**HEART, "metadata": {"name": "Heart_1"}}, "metadata.name"),
    ],
)
def test_a_wrong_field_is_refused_by_name(manifest: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate(manifest)
    assert field in [".".join(map(str, e["loc"])) for e in refused.value.errors()]


def test_bounds_are_inclusive_as_kubernetes_means_exclusive_ones_otherwise() -> None:
    assert not any("exclusiveMinimum" in node or "exclusiveMaximum" in node for node in nodes(crd()))


def test_joblib_must_be_asked_for_by_name() -> None:
    assert ArtifactFormat.JOBLIB not in Model.model_validate(HEART).spec.formats
    assert ArtifactFormat.JOBLIB in Model.model_validate(with_spec(allowFormats=["joblib"])).spec.formats


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for child in schema.values():
            yield from nodes(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from nodes(child)


def test_the_definition_has_a_structural_schema_with_every_field_of_the_type() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for node in nodes(schema):
        assert not {"$ref", "$defs", "anyOf", "title", "const"} & node.keys()
    spec = schema["properties"]["spec"]["properties"]
    assert spec.keys() == Model.model_validate(HEART).manifest()["spec"].keys()
    assert spec["training"]["nullable"]
    assert spec["batching"]["nullable"]
    assert spec["batching"]["properties"]["maxBatchSize"] == {
        "type": "integer",
        "default": 32,
        "minimum": 2,
        "maximum": 1024,
        "description": "requests in a batch, at most",
    }
    assert spec["allowFormats"]["items"]["enum"] == ["onnx", "skops", "rules", "joblib"]
    status = schema["properties"]["status"]["properties"]
    assert status["traffic"]["items"]["properties"]["role"]["enum"] == ["live", "canary", "previous", "draining"]


def test_a_missing_setting_is_told_by_its_variable_and_never_with_a_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate({"metadata": {"name": "x"}, "kind": "secret-value", "spec": {"registeredModel": "x"}})
    told = explain_settings(refused.value, "SLIPWAY_")
    assert told.startswith("set SLIPWAY_KIND: ")
    assert "secret-value" not in told
