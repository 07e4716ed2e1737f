"""Training Jobs that a Model declares: their schedule, their parameters, their image."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cronsim import CronSim
from pydantic import ValidationError
from slipway_contract.model import Model, RoutedModel, admitted
from slipway_contract.parameters import MAX_CHARACTERS
from slipway_contract.schedule import check_schedule, check_time_zone

JOB: dict[str, Any] = {
    "image": "registry.example.org:5000/team/churn:7",
    "args": ["fit"],
    "env": [{"name": "REGION", "value": "eu"}],
    "resources": {"limits": {"nvidia.com/gpu": 1}},
    "parameters": {
        "type": "object",
        "properties": {
            "depth": {"type": "integer", "minimum": 1, "default": 3},
            "rate": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
            "kind": {"enum": ["tree", "linear"], "x-order": 1},
        },
        "required": ["depth"],
        "additionalProperties": False,
    },
    "schedule": "0 4 * * 1",
    "timeZone": "Europe/Berlin",
    "deadlineSeconds": 7200,
}


def manifest(**training: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.slipway.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": "churn"},
        "spec": {"registeredModel": "churn", "training": training},
    }


def test_a_training_job_survives_a_round_trip_with_its_parameters_as_written() -> None:
    model = admitted(manifest(job=JOB))
    assert Model.model_validate(model.manifest()) == model
    assert model.manifest()["spec"]["training"]["job"]["parameters"] == JOB["parameters"]


@pytest.mark.parametrize(
    ("training", "name"),
    [({"template": "mine"}, "mine"), ({"job": JOB}, "train-churn"), ({"job": {}}, "train-churn")],
)
def test_the_gateway_finds_the_cron_job_of_a_model(training: dict[str, Any], name: str) -> None:
    found = RoutedModel.model_validate(manifest(**training)).spec.training
    assert found
    assert found.cron_job("churn") == name


def test_the_gateway_ignores_an_invalid_job() -> None:
    assert RoutedModel.model_validate(manifest(job={"schedule": 5, "args": {}})).name == "churn"


@pytest.mark.parametrize("training", [{}, {"template": "mine", "job": JOB}])
def test_a_training_has_one_source(training: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs either template or job; set one of them"):
        admitted(manifest(**training))


def schema(**more: Any) -> dict[str, Any]:
    return {"parameters": {"type": "object", **more}}


@pytest.mark.parametrize(
    ("job", "field", "text"),
    [
        ({"command": ["sh"]}, "command", "Extra inputs"),
        ({"securityContext": {"privileged": True}}, "securityContext", "Extra inputs"),
        ({"volumes": [{"hostPath": {"path": "/"}}]}, "volumes", "Extra inputs"),
        ({"serviceAccountName": "admin"}, "serviceAccountName", "Extra inputs"),
        ({"envFrom": [{"secretRef": {"name": "x"}}]}, "envFrom", "Extra inputs"),
        ({"env": [{"name": "A", "valueFrom": {}}]}, "env.0.valueFrom", "Extra inputs"),
        ({"env": [{"name": "MLFLOW_TRACKING_URI", "value": "x"}]}, "env", "use another name"),
        ({"env": [{"name": "SLIPWAY_ACTOR", "value": "x"}]}, "env", "use another name"),
        ({"image": "churn"}, "image", "churn may be another program tomorrow; name a tag"),
        ({"image": "host:5000/churn"}, "image", "may be another program tomorrow"),
        ({"image": "churn:latest"}, "image", "name a tag other than latest, or a digest"),
        ({"image": "churn:7 --privileged"}, "image", "pattern"),
        ({"args": ["x"] * 65}, "args", "at most 64"),
        ({"args": ["x" * 4097]}, "args.0", "at most 4096"),
        ({"deadlineSeconds": 59}, "deadlineSeconds", "greater than or equal to 60"),
        ({"deadlineSeconds": 604801}, "deadlineSeconds", "less than or equal to 604800"),
        ({"schedule": "0 4 * *"}, "schedule", "does not have five fields; write minute"),
        ({"schedule": "0 4 * * 1", "timeZone": "Berlin"}, "timeZone", "such as Europe/Berlin"),
        ({"timeZone": "Europe/Berlin"}, "", "no effect without a schedule; set schedule"),
        (schema(type="array"), "parameters", "type: Input should be 'object'"),
        (schema(properties={"a b": {}}), "parameters", "properties.a b.[key]: String should"),
        (schema(properties={"a": {"type": "list"}}), "parameters", "properties.a.type"),
        (schema(properties={"a": {"minimum": "1"}}), "parameters", "properties.a.minimum"),
        (schema(properties={"a": {"pattern": "("}}), "parameters", "is not a regular expression"),
        (schema(properties={"a": {"$ref": "#/b"}}), "parameters", "write the schema inline"),
        (schema(required=["b"]), "parameters", "'b' is not among properties; add it there"),
        (schema(additionalProperties=True), "parameters", "additionalProperties: Input should be"),
        (schema(title="x" * MAX_CHARACTERS), "parameters", "shorten its descriptions"),
    ],
)
def test_an_invalid_job_is_rejected_with_the_field_and_the_remedy(
    job: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        admitted(manifest(job=job))
    found = {".".join(map(str, e["loc"])): e["msg"] for e in refused.value.errors()}
    assert text in found[f"spec.training.job.{field}".removesuffix(".")]


@pytest.mark.parametrize("image", ["churn:7", f"churn@sha256:{'0' * 64}", "ghcr.io/a/b_c:v1.2-rc"])
def test_an_image_has_a_tag_or_a_digest(image: str) -> None:
    admitted(manifest(job={"image": image}))


@pytest.mark.parametrize(
    "schedule",
    ["@daily", "* * * * *", "*/15 0-6 1,15 jan-jun mon-FRI", "5/10 4 * 2 0", "0 0 31 12 6"],
)
def test_a_schedule_of_kubernetes_is_accepted(schedule: str) -> None:
    check_schedule(schedule)
    if not schedule.startswith("@"):
        next(CronSim(schedule, datetime.now(UTC)))


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        ("60 * * * *", "'60' is no minute; write *, a number of 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 7", "'7' is no day of the week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("5-1 * * * *", "'5-1' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("TZ=UTC * * * * *", "does not have five fields"),
        ("@reboot", "does not have five fields"),
        ("", "does not have five fields"),
    ],
)
def test_an_invalid_schedule_is_rejected_with_its_field(schedule: str, text: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_schedule(schedule)
    assert text in str(refused.value)


@pytest.mark.parametrize("name", ["Local", "../etc/passwd", "", "Europe"])
def test_an_unknown_time_zone_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        check_time_zone(name)
