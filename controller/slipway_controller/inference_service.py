"""One InferenceService a version: what we ask of KServe, and what we read back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway_cluster import INFERENCE_SERVICE, Manifest
from slipway_contract import labels
from slipway_contract.model import Model
from slipway_contract.registry import StorageUri

RUNTIME = "slipway-mlserver"
"""The ClusterServingRuntime that serves our artifacts."""

MODEL_FORMAT = "slipway"


@dataclass(frozen=True)
class Service:
    """An InferenceService as observed. ``smoke`` is None until a smoke prediction was tried."""

    name: str
    version: str
    manifest: Manifest
    ready: bool = False
    url: str | None = None
    failure: str | None = None
    smoke: str | None = None

    @property
    def passed(self) -> bool:
        return self.smoke == PASSED


PASSED = "passed"


def service_name(model: Model, version: str) -> str:
    """``heart-3``: unique in the namespace, and a DNS label."""
    return f"{model.name}-{version}"


def desired(model: Model, version: str, digest: str) -> Manifest:
    """The InferenceService of one version of the model."""
    uri = StorageUri(
        name=model.spec.registered_model, version=version, sha256=digest.removeprefix("sha256:"), allow=model.spec.formats
    )
    scale = model.spec.scale
    predictor = {
        "minReplicas": scale.min_replicas,
        "maxReplicas": scale.max_replicas,
        "scaleMetric": "cpu",
        "scaleTarget": scale.target_cpu_utilization,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "model": {"modelFormat": {"name": MODEL_FORMAT}, "runtime": RUNTIME, "storageUri": str(uri)},
    }
    metadata: dict[str, Any] = {
        "name": service_name(model, version),
        "labels": {labels.MODEL: model.name, labels.VERSION: version, labels.MANAGED_BY: labels.FIELD_MANAGER},
    }
    if uid := (model.metadata.model_extra or {}).get("uid"):
        owner = {"apiVersion": model.api_version, "kind": model.kind, "name": model.name, "uid": uid, "controller": True}
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.name,
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def observed(manifest: Manifest, smoke: str | None = None) -> Service:
    """Read what KServe (or its stand-in) says of an InferenceService.

    A failed load is told by ``status.modelStatus``; a predictor that is merely not up yet is not a failure.
    """
    status = manifest.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    load = status.get("modelStatus", {})
    failure = None
    if load.get("transitionStatus") == "BlockedByFailedLoad":
        failure = load.get("lastFailureInfo", {}).get("message", "").strip() or "the model could not be loaded"
    return Service(
        name=manifest["metadata"]["name"],
        version=manifest["metadata"].get("labels", {}).get(labels.VERSION, ""),
        manifest=manifest,
        ready=conditions.get("Ready") == "True",
        url=status.get("address", {}).get("url"),
        failure=failure,
        smoke=smoke,
    )


def covers(actual: object, wanted: object) -> bool:
    """Whether everything wanted is so; what others added (KServe's defaults) does not matter."""
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(key in actual and covers(actual[key], wanted[key]) for key in wanted)
    return actual == wanted
