"""The CronJob of a Model's training, whose Jobs the schedule, the gateway or kubectl starts.

What an author may not choose comes from the CronJob ``train`` of the chart: security context,
service account, volumes, credentials of the registry, node placement and history.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from slipway_cluster import CRON_JOB, Manifest
from slipway_contract import labels
from slipway_contract.model import ConditionType, Model, training_name
from slipway_contract.pod import literal
from slipway_contract.training import TrainingJob

from slipway_controller.action import Apply, Delete
from slipway_controller.diagnosis import Diagnosis
from slipway_controller.inference_service import (
    differences,
    owned_metadata,
    template_hash,
    terminating,
)

TEMPLATE = "train"
"""Name of the suspended CronJob from which those of Models are made."""

NEVER = "@yearly"
"""Schedule of a suspended CronJob, which needs one."""

IMAGE_VARIABLE = "SLIPWAY_IMAGE"
"""Variable of the template with the image of the Job, which its versions are tagged with."""


_PREVENTING = ("TrainingNameTaken", "TrainingTemplateMissing", "ClusterRefused")
"""Reasons without a CronJob."""


@dataclass(frozen=True)
class ObservedTraining:
    """CronJobs that concern the training of a Model."""

    owned: Sequence[Manifest] = ()
    """Those that the controller made for the Model."""
    template: Manifest | None = None
    """The CronJob ``train``, when the Model declares a Job."""
    taken: bool = False
    """True when another author made a CronJob of the name."""
    refused: str = ""
    """Why the cluster rejected the CronJob; empty when it did not."""


@dataclass(frozen=True)
class TrainingPlan:
    """Actions on the CronJob, and why it cannot be created."""

    actions: tuple[Apply | Delete, ...] = ()
    problem: Diagnosis | None = None


def plan_training(model: Model, observed: ObservedTraining) -> TrainingPlan:
    """Compare the declared with the observed CronJob and return the plan."""
    job = model.spec.training.job if model.spec.training else None
    name = training_name(model.name)
    refused = (
        Diagnosis("ClusterRefused", f"CronJob {name}: {observed.refused}")
        if observed.refused
        else None
    )
    if job is None:
        return TrainingPlan(training_removals(observed), refused)
    if refused:
        return TrainingPlan(problem=refused)
    if observed.taken:
        text = f"CronJob {name} was made by another author; delete it, or name it as template"
        return TrainingPlan(problem=Diagnosis("TrainingNameTaken", text))
    if observed.template is None:
        text = f"there is no CronJob {TEMPLATE} to make {name} from; upgrade the chart"
        return TrainingPlan(problem=Diagnosis("TrainingTemplateMissing", text))
    wanted = desired_cron_job(model, job, observed.template)
    actual = next((each for each in observed.owned if each["metadata"]["name"] == name), None)
    if actual is None:
        return TrainingPlan((Apply(wanted, _loss(model)),))
    changed = [] if terminating(actual) else list(differences(actual, wanted))
    if not changed:
        return TrainingPlan()
    return TrainingPlan((Apply(wanted, _drift(actual, wanted, changed)),))


def training_removals(observed: ObservedTraining) -> tuple[Delete, ...]:
    """Return the deletions of all CronJobs of the Model, except those being deleted."""
    return tuple(
        Delete(CRON_JOB, each["metadata"]["name"])
        for each in observed.owned
        if not terminating(each)
    )


def _loss(model: Model) -> str:
    """Describe the deletion by another client; empty when the CronJob has never existed."""
    status = model.status
    failed = status.condition(ConditionType.DEGRADED)
    prevented = failed is not None and failed.reason in _PREVENTING
    if prevented or status.observed_generation != model.metadata.generation:
        return ""
    return "was deleted; it is created again"


def _drift(actual: Manifest, wanted: Manifest, changed: Sequence[str]) -> str:
    """Describe a change by another client; empty when the Model or the template has changed."""
    if _hash(actual) != _hash(wanted):
        return ""
    return f"was changed ({', '.join(changed)}); it is restored"


def _hash(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("annotations", {}).get(labels.TEMPLATE, ""))


def desired_cron_job(model: Model, job: TrainingJob, template: Manifest) -> Manifest:
    """Return the CronJob of a Model: suspended without a schedule, else scheduled."""
    spec: dict[str, Any] = deepcopy(template["spec"])
    spec |= {"schedule": job.schedule or NEVER, "suspend": job.schedule is None}
    spec.pop("timeZone", None)
    if job.time_zone:
        spec["timeZone"] = job.time_zone
    made = spec["jobTemplate"]
    if job.deadline_seconds:
        made["spec"]["activeDeadlineSeconds"] = job.deadline_seconds
    for part in (made, made["spec"]["template"]):
        metadata = part.setdefault("metadata", {})
        metadata.pop("creationTimestamp", None)
        metadata["labels"] = {**metadata.get("labels", {}), labels.MODEL: model.name}
    # The gateway lists the Jobs of the schedule, too.
    made["metadata"]["labels"][labels.PURPOSE] = labels.TRAINING
    containers = made["spec"]["template"]["spec"]["containers"]
    containers[0] = _container(containers[0], job)
    metadata = owned_metadata(model, training_name(model.name))
    metadata["annotations"] = {labels.TEMPLATE: template_hash(spec, job.parameters or {})}
    if job.parameters is not None:
        metadata["annotations"][labels.PARAMETERS] = json.dumps(job.parameters, sort_keys=True)
    return {
        "apiVersion": CRON_JOB.api_version,
        "kind": CRON_JOB.name,
        "metadata": metadata,
        "spec": spec,
    }


def _container(template: Mapping[str, Any], job: TrainingJob) -> dict[str, Any]:
    """Return the template's container with the choices of the author.

    Variables of the template take precedence: they are addresses and credentials.
    """
    image = job.image or template["image"]
    variables = [
        {"name": IMAGE_VARIABLE, "value": image} if each["name"] == IMAGE_VARIABLE else each
        for each in template.get("env", [])
    ]
    names = {each["name"] for each in variables}
    variables += [each.pod_variable() for each in job.env if each.name not in names]
    container = {**template, "image": image, "env": variables}
    container["args"] = [literal(each) for each in job.args]
    if job.image:
        container["command"] = []  # the image's own entrypoint
    if job.resources:
        usual, chosen = template.get("resources", {}), job.resources.manifest()
        container["resources"] = {
            key: {**usual.get(key, {}), **chosen[key]} for key in ("requests", "limits")
        }
    return container
