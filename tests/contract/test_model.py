"""The Model resource and its generated CustomResourceDefinition."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from slipway_contract.crd import crd
from slipway_contract.errors import explain_settings
from slipway_contract.model import ConditionType, Model, RoutedModel, TrafficRole, admitted
from slipway_contract.registry import ArtifactFormat

from tests.support.skew import INVENTED, of_a_later_release

HEART: dict[str, Any] = {
    "apiVersion": "serving.slipway.dev/v1alpha1",
    "kind": "Model",
    "metadata": {"name": "heart"},
    "spec": {
        "description": "probability of a heart disease\nfrom 13 findings",
        "owner": "Cardiology <cardiology@example.org>",
        "registeredModel": "heart",
        "alias": "champion",
        "training": {"template": "train-heart"},
        "scale": {"minReplicas": 1, "maxReplicas": 4, "targetCPUUtilization": 70},
        "batching": {"maxBatchSize": 16, "maxBatchTime": 0.002},
        "rollout": {"steps": [10, 50], "stepSeconds": 60, "previousKept": 1},
    },
}


ROLLBACK: dict[str, Any] = {"version": "1", "insteadOf": ["2"], "reason": "wrong scores"}


def with_spec(**spec: Any) -> dict[str, Any]:
    return {**HEART, "spec": {**HEART["spec"], **spec}}


def test_a_model_survives_a_round_trip() -> None:
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
        (with_spec(description=""), "spec.description"),
        (with_spec(description="x" * 1001), "spec.description"),
        (with_spec(owner="two\nlines"), "spec.owner"),
        (with_spec(owner=" "), "spec.owner"),
        (with_spec(owner="x" * 201), "spec.owner"),
        (with_spec(allowFormats=["pickle"]), "spec.allowFormats.0"),
        (with_spec(scale={"minReplicas": 1, INVENTED: 1}), f"spec.scale.{INVENTED}"),
        (with_spec(rollout={INVENTED: {}}), f"spec.rollout.{INVENTED}"),
        ({**HEART, "specs": {}}, "specs"),
        ({**HEART, "metadata": {"name": "Heart_1"}}, "metadata.name"),
    ],
)
def test_an_invalid_field_is_rejected_by_name_at_admission(
    manifest: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        admitted(manifest)
    assert field in [".".join(map(str, e["loc"])) for e in refused.value.errors()]


def test_retention_is_a_number_of_days_also_in_the_definition() -> None:
    spec = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = spec["properties"]["retention"]["properties"]
    for bodies, facts in (("1d", "30d"), ("30d", "400d"), ("9999d", "9999d")):
        given = {"bodies": bodies, "facts": facts}
        found = admitted(with_spec(retention=given)).spec.retention
        assert found
        assert (found.body_days, found.fact_days) == (int(bodies[:-1]), int(facts[:-1]))
        assert all(re.search(fields[name]["pattern"], text) for name, text in given.items())
    for name, text in (("bodies", "0d"), ("facts", "29d"), ("bodies", "10000d")):
        assert not re.search(fields[name]["pattern"], text)
    with pytest.raises(ValidationError, match="not a number of days from 30d to 9999d; write it"):
        admitted(with_spec(retention={"facts": "4w"}))


@pytest.mark.parametrize("name", ["squeezenet1.1", "my model", "../x", "heart\n", "", "x" * 254])
def test_an_invalid_name_of_a_registered_model_is_rejected_at_admission(name: str) -> None:
    with pytest.raises(ValidationError, match=r"registeredModel\n +String should match pattern"):
        admitted({**HEART, **with_spec(registeredModel=name)})
    admitted({**HEART, **with_spec(registeredModel="x" * 253)})


def test_admission_ignores_status_and_additional_metadata() -> None:
    metadata = {"name": "heart", "labels": {"team": "x"}, "managedFields": [{}]}
    assert admitted({**HEART, "metadata": metadata, "status": {INVENTED: 1}}).name == "heart"


TARGET = {
    "version": "1",
    "percent": 100,
    "digest": "sha256:1",
    "service": "heart-1",
    "url": "http://heart-1",
}
SERVED = {
    **HEART,
    "status": {
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Serving",
                "lastTransitionTime": "2026-01-01T12:00:00Z",
            }
        ],
        "traffic": [
            {**TARGET, "role": "live", "since": "2026-01-01T12:00:00Z"},
            {
                **TARGET,
                "version": "2",
                "percent": 0,
                "role": "previous",
                "since": "2026-01-01T12:00:00Z",
            },
        ],
    },
}


def test_readers_ignore_fields_of_a_later_release() -> None:
    later = of_a_later_release(SERVED)
    model = Model.model_validate(later)
    assert model.spec.formats == Model.model_validate(SERVED).spec.formats
    assert model.spec.scale.max_replicas == 4
    assert [(t.version, t.percent) for t in model.status.traffic] == [("1", 100), ("2", 0)]
    ready = model.status.condition(ConditionType.READY)
    assert ready
    assert ready.status == "True"
    assert RoutedModel.model_validate(later).status == model.status


def test_roles_and_conditions_of_a_later_release_are_passed_on_unchanged() -> None:
    status = Model.model_validate(of_a_later_release(SERVED)).status
    assert status.traffic[1].role == "shadow"
    assert status.manifest()["traffic"][1]["role"] == "shadow"
    assert status.manifest()["conditions"][-1]["type"] == "Shadowing"
    wrong: Any
    for wrong in (3, None, {}):
        with pytest.raises(ValueError, match="is not a valid TrafficRole"):
            TrafficRole(wrong)


def test_the_gateway_ignores_invalid_fields_of_a_spec_that_it_does_not_use() -> None:
    manifest = {
        **SERVED,
        **with_spec(scale={"minReplicas": 5000}, rollout="of the next version", allowFormats=[{}]),
    }
    assert RoutedModel.model_validate(manifest).spec.registered_model == "heart"


def test_the_definition_has_no_exclusive_bounds() -> None:
    assert not any(
        "exclusiveMinimum" in node or "exclusiveMaximum" in node for node in nodes(crd())
    )


def test_joblib_must_be_allowed_explicitly() -> None:
    assert ArtifactFormat.JOBLIB not in Model.model_validate(HEART).spec.formats
    assert (
        ArtifactFormat.JOBLIB
        in Model.model_validate(with_spec(allowFormats=["joblib"])).spec.formats
    )


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
        assert not {"$ref", "$defs", "anyOf", "title", "const", "patternProperties"} & node.keys()
    spec = schema["properties"]["spec"]["properties"]
    complete = Model.model_validate(with_spec(predictor={}, rollback=ROLLBACK, retention={}))
    assert spec.keys() == complete.manifest()["spec"].keys()
    limits = spec["predictor"]["properties"]["resources"]["properties"]["limits"]
    assert limits["additionalProperties"]["x-kubernetes-int-or-string"]
    assert spec["predictor"]["properties"]["nodeSelector"]["additionalProperties"]["pattern"]
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
    assert status["traffic"]["items"]["properties"]["role"]["enum"] == [
        "live",
        "canary",
        "previous",
        "draining",
    ]


def test_kubectl_explain_has_a_description_for_every_field() -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert "description" in schema
    fields = [
        (name, child)
        for node in nodes(schema)
        for name, child in node.get("properties", {}).items()
        if "type" in child
    ]
    assert len(fields) > 30
    assert [name for name, child in fields if not child.get("description", "").strip()] == []


def test_an_invalid_setting_is_reported_by_its_variable_without_its_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Model.model_validate(
            {"metadata": {"name": "x"}, "kind": "secret-value", "spec": {"registeredModel": "x"}}
        )
    text = explain_settings(refused.value, "SLIPWAY_")
    assert text.startswith("set SLIPWAY_KIND: ")
    assert "secret-value" not in text
