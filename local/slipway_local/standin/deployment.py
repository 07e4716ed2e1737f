"""Status of a Deployment from its pods."""

from collections.abc import Sequence
from datetime import datetime

from slipway_cluster.interface import Manifest

from slipway_local.standin.predictor import conditions, failure_message, is_ready


def status(deployment: Manifest, pods: Sequence[Manifest], now: datetime) -> Manifest:
    """Return the status from the pods, the oldest first."""
    ready = sum(map(is_ready, pods))
    observed = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if ready or not pods
        else ("False", "MinimumReplicasUnavailable", failure_message(pods[-1].get("status", {})))
    )
    return {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": conditions(deployment, ["Available"], *observed, now),
    }
