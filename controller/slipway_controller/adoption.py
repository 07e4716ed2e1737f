"""Adoption of versions logged by hand: they have no digest to pin until a Job adopts them."""

import json
from dataclasses import dataclass
from typing import Literal

from slipway_cluster import CRON_JOB, JOB, Cluster, ClusterError, Manifest, NotFound
from slipway_contract.model import Model

from slipway_controller.registry import Unpinned

TEMPLATE = "adopt"
"""Name of the suspended CronJob that is the template of the Job.

The Job's arguments are the registered model and the version.
"""


@dataclass(frozen=True)
class Adoption:
    """State of an adoption.

    ``due``: the Job is to be created; ``impossible``: the namespace has no template for it.
    """

    state: Literal["due", "running", "failed", "impossible"]
    message: str = ""


def job_name(model: Model, version: str) -> str:
    """Return the name of the version's Job; the name prevents a second Job."""
    return f"{TEMPLATE}-{model.name}-{version}"


def adoption_of(cluster: Cluster, model: Model, wanted: Unpinned) -> Adoption:
    """Return the state of the adoption of an unpinned version.

    Kubernetes removes a failed Job after ``ttlSecondsAfterFinished``; the controller then starts
    another one.
    """
    name = job_name(model, wanted.version)
    try:
        job = cluster.get(JOB, name)
    except NotFound:
        return _not_started(cluster)
    failure = failure_of(cluster, job)
    return Adoption("running") if failure is None else Adoption("failed", failure)


def condition_of(job: Manifest, kind: str) -> Manifest | None:
    """Return the condition of a Job if it is true."""
    found = job.get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind and c["status"] == "True"), None)


def failure_of(cluster: Cluster, job: Manifest) -> str | None:
    """Return why a Job has failed, possibly an empty text; None when it has not."""
    failed = condition_of(job, "Failed")
    if failed is None:
        return None
    name = job["metadata"]["name"]
    if reason := _reason(cluster, name):
        return reason
    if failed.get("reason") == "BackoffLimitExceeded":
        return (
            f"the Job {name} ended without a result (killed, out of memory or crashed); see its log"
        )
    return str(failed.get("message", ""))


def _not_started(cluster: Cluster) -> Adoption:
    try:
        cluster.get(CRON_JOB, TEMPLATE)
    except NotFound:
        return Adoption("impossible")
    return Adoption("due")


def _reason(cluster: Cluster, job: str) -> str:
    """Return the reason from the last JSON object in the Job's log; "" when there is none."""
    try:
        lines = [line for line in cluster.logs(JOB, job) if line.startswith("{")]
        return str(json.loads(lines[-1])["reason"]) if lines else ""
    except (ClusterError, ValueError, KeyError):
        return ""
