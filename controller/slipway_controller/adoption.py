"""A version that was logged by hand has no digest to pin: a Job adopts it, and here is how far that
is.
"""

import json
from dataclasses import dataclass
from typing import Literal

from slipway_cluster import CRON_JOB, JOB, Cluster, ClusterError, NotFound
from slipway_contract.model import Model

from slipway_controller.registry import Unpinned

TEMPLATE = "adopt"
"""The suspended CronJob that the Job is made from; its arguments are the registered model and the
version.
"""


@dataclass(frozen=True)
class Adoption:
    """``due``: the Job is to be made; ``impossible``: there is no template of it here."""

    state: Literal["due", "running", "failed", "impossible"]
    message: str = ""


def job_name(model: Model, version: str) -> str:
    """One Job a version: a second is refused by its name."""
    return f"{TEMPLATE}-{model.name}-{version}"


def adoption_of(cluster: Cluster, model: Model, wanted: Unpinned) -> Adoption:
    """Look for the Job. A failed one is kept for a while (``ttlSecondsAfterFinished``), and then
    tried again.
    """
    name = job_name(model, wanted.version)
    try:
        job = cluster.get(JOB, name)
    except NotFound:
        return _before(cluster)
    ended = [
        c
        for c in job.get("status", {}).get("conditions", [])
        if c["type"] == "Failed" and c["status"] == "True"
    ]
    return (
        Adoption("failed", _reason(cluster, name) or ended[0].get("message", ""))
        if ended
        else Adoption("running")
    )


def _before(cluster: Cluster) -> Adoption:
    try:
        cluster.get(CRON_JOB, TEMPLATE)
    except NotFound:
        return Adoption("impossible")
    return Adoption("due")


def _reason(cluster: Cluster, job: str) -> str:
    """What the Job printed last: a JSON object with its reason."""
    try:
        lines = [line for line in cluster.logs(JOB, job) if line.startswith("{")]
        return str(json.loads(lines[-1])["reason"]) if lines else ""
    except (ClusterError, ValueError, KeyError):
        return ""
