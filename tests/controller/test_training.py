"""The CronJob of a Model's training."""

from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from slipway_cluster import CRON_JOB, JOB, Manifest
from slipway_contract import labels
from slipway_contract.model import Model, ModelStatus
from slipway_controller.action import Apply, Delete
from slipway_controller.controller import Controller
from slipway_controller.registry import Registry
from slipway_controller.training import ObservedTraining, plan_training
from slipway_local.standin.job import finished

from tests.cluster.machine import Machine
from tests.cluster.manifests import cron_job as suspended_cron_job
from tests.support.waiting import wait_for

RESTRICTED = {"runAsNonRoot": True, "allowPrivilegeEscalation": False}
SECRET = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "registry", "key": "p"}}}
TEMPLATE: Manifest = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "train", "labels": {labels.MANAGED_BY: "Helm"}},
    "spec": {
        "schedule": "@yearly",
        "timeZone": "Etc/UTC",
        "suspend": True,
        "concurrencyPolicy": "Forbid",
        "jobTemplate": {
            "metadata": {"labels": {"component": "training"}, "creationTimestamp": None},
            "spec": {
                "activeDeadlineSeconds": 3600,
                "template": {
                    "metadata": {"labels": {"component": "training"}},
                    "spec": {
                        "restartPolicy": "Never",
                        "serviceAccountName": "training",
                        "automountServiceAccountToken": False,
                        "containers": [
                            {
                                "name": "job",
                                "image": "slipway/jobs:1",
                                "command": ["python", "-m", "slipway_jobs"],
                                "env": [SECRET, {"name": "SLIPWAY_IMAGE", "value": "old"}],
                                "securityContext": RESTRICTED,
                                "resources": {
                                    "requests": {"cpu": "100m", "memory": "384Mi"},
                                    "limits": {"cpu": "2", "memory": "2Gi"},
                                },
                            }
                        ],
                    },
                },
            },
        },
    },
}
SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer", "minimum": 1}}}
DECLARED: dict[str, Any] = {
    "image": "registry.example.org/churn:7",
    "args": ["fit", "--to=$(HOME)"],
    "env": [{"name": "REGION", "value": "eu"}],
    "resources": {"limits": {"memory": "8192Mi", "nvidia.com/gpu": 1}},
    "parameters": SCHEMA,
    "schedule": "0 4 * * 1",
    "timeZone": "Europe/Berlin",
    "deadlineSeconds": 7200,
}


def model(job: dict[str, Any] | None = None, *, generation: int = 1, observed: int = 0) -> Model:
    training = None if job is None else {"job": job}
    return Model.model_validate(
        {
            "metadata": {"name": "churn", "uid": "u", "generation": generation},
            "spec": {"registeredModel": "churn", "training": training},
            "status": {"observedGeneration": observed},
        }
    )


def made(job: dict[str, Any], template: Manifest = TEMPLATE) -> Manifest:
    (action,) = plan_training(model(job), ObservedTraining(template=template)).actions
    assert isinstance(action, Apply)
    assert action.drift == ""
    return action.manifest


def pod_of(cron_job: Manifest) -> Manifest:
    found: Manifest = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    return found


def test_a_job_with_a_schedule_becomes_a_scheduled_cron_job() -> None:
    cron_job = made(DECLARED)
    assert cron_job["metadata"]["name"] == "train-churn"
    assert cron_job["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert cron_job["metadata"]["annotations"][labels.PARAMETERS] == (
        '{"properties": {"depth": {"minimum": 1, "type": "integer"}}, "type": "object"}'
    )
    spec = cron_job["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("0 4 * * 1", "Europe/Berlin")
    assert (spec["suspend"], spec["concurrencyPolicy"]) == (False, "Forbid")
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 7200
    shared = {"component": "training", labels.MODEL: "churn"}
    assert pod_of(cron_job)["metadata"] == {"labels": shared}
    listed = {**shared, labels.PURPOSE: "training"}
    assert spec["jobTemplate"]["metadata"] == {"labels": listed}
    (container,) = pod_of(cron_job)["spec"]["containers"]
    assert container["image"] == "registry.example.org/churn:7"
    assert container["command"] == []
    assert container["args"] == ["fit", "--to=$$(HOME)"]
    assert container["env"] == [
        SECRET,
        {"name": "SLIPWAY_IMAGE", "value": "registry.example.org/churn:7"},
        {"name": "REGION", "value": "eu"},
    ]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "8Gi", "nvidia.com/gpu": "1"},
        "limits": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"},
    }


def test_a_job_without_a_schedule_or_an_image_is_suspended_and_runs_the_platforms_program() -> None:
    cron_job = made({"args": ["train", "churn"]})
    assert cron_job["spec"]["suspend"] is True
    assert "timeZone" not in cron_job["spec"]
    assert labels.PARAMETERS not in cron_job["metadata"]["annotations"]
    (container,) = pod_of(cron_job)["spec"]["containers"]
    assert container["image"] == "slipway/jobs:1"
    assert container["command"] == ["python", "-m", "slipway_jobs"]
    assert cron_job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 3600


def test_account_security_context_and_credentials_are_those_of_the_template() -> None:
    usual, pod = pod_of(TEMPLATE)["spec"], pod_of(made(DECLARED))["spec"]
    assert pod | {"containers": []} == usual | {"containers": []}
    assert pod["containers"][0]["securityContext"] == RESTRICTED
    own = made({**DECLARED, "env": [{"name": "PASSWORD", "value": "mine"}]})
    assert pod_of(own)["spec"]["containers"][0]["env"].count(SECRET) == 1
    assert "mine" not in str(own)


def stored(manifest: Manifest) -> Manifest:
    """Return the object as the API server stores it: with defaults, without empty lists."""
    found = deepcopy(manifest)
    found["spec"]["startingDeadlineSeconds"] = 100
    container = pod_of(found)["spec"]["containers"][0]
    for key in ("command", "args"):
        if not container[key]:
            del container[key]
    return found


def plan(job: dict[str, Any], actual: Manifest, template: Manifest = TEMPLATE) -> list[Any]:
    observed = ObservedTraining([actual], template)
    return list(plan_training(model(job, observed=1), observed).actions)


def test_an_unchanged_cron_job_causes_no_action() -> None:
    assert plan(DECLARED, stored(made(DECLARED))) == []
    assert plan({}, stored(made({}))) == []


@pytest.mark.parametrize(
    "field", ["image", "args", "env", "resources", "parameters", "timeZone", "deadlineSeconds"]
)
def test_a_removed_choice_is_applied_and_is_not_reported_as_a_repair(field: str) -> None:
    less = {key: value for key, value in DECLARED.items() if key != field}
    (action,) = plan(less, stored(made(DECLARED)))
    assert action == Apply(made(less))


def test_a_new_template_of_the_chart_is_applied_and_is_not_reported_as_a_repair() -> None:
    template = deepcopy(TEMPLATE)
    pod_of(template)["spec"]["serviceAccountName"] = "other"
    (action,) = plan(DECLARED, stored(made(DECLARED)), template)
    assert action == Apply(made(DECLARED, template))


def test_a_change_by_another_client_is_restored_and_named() -> None:
    edited = stored(made(DECLARED))
    edited["spec"]["suspend"] = True
    pod_of(edited)["spec"]["containers"][0]["command"] = ["sh"]
    (action,) = plan(DECLARED, edited)
    assert action.manifest == made(DECLARED)
    assert action.drift == (
        "was changed (spec.suspend, "
        "spec.jobTemplate.spec.template.spec.containers[0].command); it is restored"
    )


def test_a_deleted_cron_job_is_created_again_and_reported_only_if_it_existed() -> None:
    observed = ObservedTraining(template=TEMPLATE)
    (action,) = plan_training(model(DECLARED, observed=1), observed).actions
    assert action == Apply(made(DECLARED), "was deleted; it is created again")
    (first,) = plan_training(model(DECLARED, generation=2, observed=1), observed).actions
    assert first == Apply(made(DECLARED))
    now = "2026-01-01T12:00:00Z"
    waited = {"reason": "TrainingTemplateMissing", "status": "True", "lastTransitionTime": now}
    status = {"observedGeneration": 1, "conditions": [{"type": "Degraded", **waited}]}
    before = model(DECLARED).model_copy(update={"status": ModelStatus.model_validate(status)})
    assert plan_training(before, observed).actions == (Apply(made(DECLARED)),)


def test_the_cron_job_is_deleted_when_the_model_declares_none_any_more() -> None:
    actual = made(DECLARED)
    assert plan_training(model(), ObservedTraining([actual])).actions == (
        Delete(CRON_JOB, "train-churn"),
    )
    actual["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert plan_training(model(), ObservedTraining([actual])).actions == ()


@pytest.mark.parametrize(
    ("observed", "reason", "text"),
    [
        (ObservedTraining(), "TrainingTemplateMissing", "there is no CronJob train"),
        (
            ObservedTraining(template=TEMPLATE, taken=True),
            "TrainingNameTaken",
            "CronJob train-churn was made by another author; delete it, or name it as template",
        ),
        (
            ObservedTraining(template=TEMPLATE, refused="403: exceeded quota"),
            "ClusterRefused",
            "CronJob train-churn: 403: exceeded quota",
        ),
    ],
)
def test_a_cron_job_that_cannot_be_created_is_reported(
    observed: ObservedTraining, reason: str, text: str
) -> None:
    found = plan_training(model(DECLARED), observed)
    assert found.actions == ()
    assert found.problem
    assert found.problem.reason == reason
    assert text in found.problem.message


def test_a_cron_job_that_cannot_be_deleted_is_reported() -> None:
    owned = made(DECLARED)
    refused = ObservedTraining([owned], refused="403: a policy forbids it")
    plan = plan_training(model(), refused)
    assert plan.actions == (Delete(CRON_JOB, "train-churn"),)
    assert plan.problem
    assert plan.problem.reason == "ClusterRefused"
    assert "a policy forbids it" in plan.problem.message


PROGRAM = """
import json, os, sys
print(json.dumps({"args": sys.argv[1:], "region": os.environ["REGION"]}), flush=True)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine.running(tmp_path / "state") as machine:
        yield machine


def test_the_schedule_and_a_caller_start_jobs_with_the_choices_of_the_author(
    machine: Machine,
) -> None:
    cluster = machine.cluster
    cluster.apply(suspended_cron_job("train", PROGRAM))
    job = {
        "args": ["fit", "$(REGION)"],
        "env": DECLARED["env"],
        "resources": DECLARED["resources"],
        "schedule": "@hourly",
    }
    manifest = model(job).manifest()
    cluster.apply({**manifest, "metadata": {"name": "churn"}})
    empty = httpx.MockTransport(lambda _: httpx.Response(404))
    registry = Registry(httpx.Client(base_url="http://mlflow", transport=empty))
    assert Controller(cluster, registry, httpx.Client()).reconcile_model("churn")

    manual = cluster.create_job("train-churn", args=["--set=depth=3"])
    machine.ahead = timedelta(hours=1)
    jobs = wait_for(
        "the Job of the caller and at least one of the schedule",
        lambda: len(found := cluster.list(JOB)) >= 2 and all(map(finished, found)) and found,
    )
    assert {finished(each) for each in jobs} == {"Complete"}
    for each in jobs:
        by_hand = each["metadata"]["name"] == manual["metadata"]["name"]
        args = '["fit", "$(REGION)", "--set=depth=3"]' if by_hand else '["fit", "$(REGION)"]'
        log = list(cluster.logs(JOB, each["metadata"]["name"]))
        assert log == [f'{{"args": {args}, "region": "eu"}}']
        assert each["metadata"]["labels"][labels.PURPOSE] == "training"
        (container,) = each["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "1"}
