"""The HorizontalPodAutoscaler of a version."""

from slipway_cluster import HORIZONTAL_POD_AUTOSCALER, Manifest
from slipway_contract.model import Model

from slipway_controller.inference_service import object_metadata, service_name

SHRINK_AFTER_SECONDS = 60
"""Stabilization window of a scale-down.

A new predictor is ready within 10 s, so the default of 300 s mostly pays for idle ones. A window of
60 s keeps the replicas between bursts that come every minute.
"""


def desired_autoscaler(model: Model, version: str) -> Manifest:
    """Return the autoscaler of the Deployment that KServe creates for the version.

    It scales by CPU utilization relative to the CPU request. Its name is not ``heart-3-predictor``:
    KServe deletes an autoscaler of that name when the autoscaler class is ``external``.
    """
    scale = model.spec.scale
    target = {"type": "Utilization", "averageUtilization": scale.target_cpu_utilization}
    return {
        "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": HORIZONTAL_POD_AUTOSCALER.name,
        "metadata": object_metadata(model, version),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": f"{service_name(model, version)}-predictor",
            },
            "minReplicas": scale.min_replicas,
            "maxReplicas": scale.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": SHRINK_AFTER_SECONDS,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                }
            },
        },
    }
