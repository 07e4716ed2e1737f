"""Jobs that Slipway starts from a CronJob's template, and the pod whose log is the Job's."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from types import MappingProxyType

from slipway_cluster.clock import moment_of
from slipway_cluster.interface import Manifest

INSTANTIATE = "cronjob.kubernetes.io/instantiate"


def manual_job(
    cron_job: Manifest,
    name: str,
    args: Sequence[str],
    env: Mapping[str, str],
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> Manifest:
    """Return the Job of ``kubectl create job NAME --from=cronjob/…``, with additions."""
    job = from_template(cron_job, name)
    job["metadata"]["labels"] |= labels
    job["metadata"]["annotations"] |= {**annotations, INSTANTIATE: "manual"}
    container = job["spec"]["template"]["spec"]["containers"][0]
    if args:
        container["args"] = [*container.get("args", []), *map(_literal, args)]
    if env:
        kept = [each for each in container.get("env", []) if each["name"] not in env]
        container["env"] = kept + [
            {"name": key, "value": _literal(value)} for key, value in env.items()
        ]
    return job


def _literal(text: str) -> str:
    """Escape ``$``, so that Kubernetes does not expand ``$(PASSWORD)`` in the input of a user."""
    return text.replace("$", "$$")


def from_template(cron_job: Manifest, name: str) -> Manifest:
    """Return a Job of the CronJob's template, owned by the CronJob."""
    template = deepcopy(cron_job["spec"]["jobTemplate"])
    metadata = template.get("metadata", {})
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": cron_job["metadata"]["name"],
        "uid": cron_job["metadata"]["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": dict(metadata.get("labels", {})),
            "annotations": dict(metadata.get("annotations", {})),
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def representative_pod(pods: Sequence[Manifest]) -> Manifest | None:
    """Return the pod whose log is the Job's: the newest unfinished one, else the last to end.

    ``pods``: the oldest first.
    """

    def end(pod: Manifest) -> datetime:
        state = terminated(pod) if phase_of(pod) in ("Succeeded", "Failed") else None
        return (
            moment_of(state["finishedAt"])
            if state and "finishedAt" in state
            else datetime.max.replace(tzinfo=UTC)
        )

    return max(reversed(pods), key=end, default=None)


def phase_of(pod: Manifest) -> str:
    """Return the phase of a pod; Pending for one without a status."""
    return str(pod.get("status", {}).get("phase", "Pending"))


def terminated(pod: Manifest) -> Manifest | None:
    """Return the terminated state of the first container that has one, else None."""
    for container in container_statuses(pod):
        state: Manifest | None = container.get("state", {}).get("terminated")
        if state:
            return state
    return None


def container_statuses(pod: Manifest) -> list[Manifest]:
    """Return the statuses of all containers; the main one first, because it ran last."""
    status = pod.get("status", {})
    return [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
