"""One InferenceService a version: what we ask of KServe, and what we read back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway_cluster import INFERENCE_SERVICE, Manifest
from slipway_contract import labels
from slipway_contract.model import Batching, Model
from slipway_contract.registry import StorageUri

from slipway_controller.diagnosis import Diagnosis, load_failure

RUNTIME = "slipway-mlserver"
"""The ClusterServingRuntime that serves our artifacts."""

MODEL_FORMAT = "slipway"

PASSED = "passed"


@dataclass(frozen=True)
class Service:
    """An InferenceService as observed. ``smoke`` is None until a smoke prediction was tried."""

    name: str
    version: str
    manifest: Manifest
    ready: bool = False
    url: str | None = None
    diagnosis: Diagnosis | None = None
    """Why it is not ready; always None when it is."""
    stage: str = ""
    """What its newest pod is doing, while it is not ready."""
    smoke: str | None = None

    @property
    def passed(self) -> bool:
        return self.smoke == PASSED

    @property
    def broken(self) -> bool:
        """Whether waiting will not help."""
        return self.diagnosis is not None and self.diagnosis.lasting


def service_name(model: Model, version: str) -> str:
    """``heart-3``: unique in the namespace, and a DNS label."""
    return f"{model.name}-{version}"


def object_metadata(model: Model, version: str) -> dict[str, Any]:
    """Metadata of every object of a version: labels to find it by, and the Model as its owner, with
    which it goes.
    """
    metadata: dict[str, Any] = {
        "name": service_name(model, version),
        "labels": {
            labels.MODEL: model.name,
            labels.VERSION: version,
            labels.MANAGED_BY: labels.FIELD_MANAGER,
        },
    }
    if uid := model.metadata.uid:
        owner = {
            "apiVersion": model.api_version,
            "kind": model.kind,
            "name": model.name,
            "uid": uid,
            "controller": True,
        }
        metadata["ownerReferences"] = [owner]
    return metadata


def desired(model: Model, version: str, digest: str) -> Manifest:
    """The InferenceService of one version of the model.

    It says nothing of replicas: KServe's own autoscaler cannot be told how fast to scale, so ours
    takes its place.
    """
    uri = StorageUri(
        name=model.spec.registered_model,
        version=version,
        sha256=digest.removeprefix("sha256:"),
        allow=model.spec.formats,
    )
    metadata = object_metadata(model, version)
    metadata["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
    predictor = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "model": {
            "modelFormat": {"name": MODEL_FORMAT},
            "runtime": RUNTIME,
            "storageUri": str(uri),
            "env": _batching(model.spec.batching),
        },
    }
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.name,
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def _batching(batching: Batching | None) -> list[dict[str, str]]:
    """MLServer's settings of it. That it is off is said too: otherwise switching it off would
    change nothing.
    """
    size, seconds = (batching.max_batch_size, batching.max_batch_time) if batching else (0, 0)
    return [
        {"name": "MLSERVER_MODEL_MAX_BATCH_SIZE", "value": str(size)},
        {"name": "MLSERVER_MODEL_MAX_BATCH_TIME", "value": f"{seconds:g}"},
    ]


def observed(manifest: Manifest, smoke: str | None = None) -> Service:
    """Read what KServe (or its stand-in) says of an InferenceService; one that is being deleted
    counts as not ready.
    """
    status = manifest.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    ready = conditions.get("Ready", {}).get("status") == "True" and not terminating(manifest)
    return Service(
        name=manifest["metadata"]["name"],
        version=manifest["metadata"].get("labels", {}).get(labels.VERSION, ""),
        manifest=manifest,
        ready=ready,
        url=status.get("address", {}).get("url"),
        diagnosis=None if ready else _failure(status, conditions),
        smoke=smoke,
    )


def _failure(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> Diagnosis | None:
    """What KServe itself reports: a model that cannot be fetched, a spec without a runtime, pods
    that may not be made.
    """
    load = status.get("modelStatus", {})
    failure = load.get("lastFailureInfo", {})
    message = failure.get("message", "").strip()
    if load.get("transitionStatus") == "BlockedByFailedLoad":
        return load_failure(message or "the model could not be loaded")
    if load.get("transitionStatus") == "InvalidSpec":
        return Diagnosis(
            failure.get("reason") or "InvalidSpec", message or "KServe refuses the InferenceService"
        )
    predictor = conditions.get("PredictorReady", {})
    if predictor.get("reason") == "FailedCreate":  # quota, Pod Security
        return Diagnosis("PodsNotCreated", predictor.get("message", "its pods may not be created"))
    return None


def terminating(manifest: Manifest) -> bool:
    """Whether the object is on its way out."""
    return "deletionTimestamp" in manifest["metadata"]


def differences(actual: object, wanted: object, path: str = "") -> Iterator[str]:
    """Paths at which the object is not as wanted; what others added (KServe's defaults) does not
    matter.
    """
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for key, value in wanted.items():
            yield from differences(actual.get(key), value, f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(actual, list) and len(actual) == len(wanted):
        for index, (mine, theirs) in enumerate(zip(wanted, actual, strict=True)):
            yield from differences(theirs, mine, f"{path}[{index}]")
    elif actual != wanted:
        yield path
