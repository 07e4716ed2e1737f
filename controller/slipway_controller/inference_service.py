"""The InferenceService of a version: its desired manifest and its observed state."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slipway_cluster import INFERENCE_SERVICE, Manifest
from slipway_contract import labels
from slipway_contract.model import Batching, Model
from slipway_contract.pod import Predictor
from slipway_contract.registry import StorageUri

from slipway_controller.diagnosis import Diagnosis, diagnosis_of, load_failure, stage_of

RUNTIME = "slipway-mlserver"
"""The ClusterServingRuntime of Slipway's artifacts."""

MODEL_FORMAT = "slipway"

DEPLOYMENT_STRATEGY = {
    "type": "RollingUpdate",
    "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
}
"""Kubernetes' default takes away a quarter of the pods before new ones are ready."""

OTHER_RUNTIME_POD: Manifest = {
    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
}
"""What a pod with another runtime needs: the profile ``restricted`` requires the first, and the
storage initializer mounts the second.
"""

_RUNTIME_REASONS = ("RuntimeNotRecognized", "RuntimeDisabled", "NoSupportingRuntime")
"""Reasons of KServe for a runtime that cannot serve the model."""

PASSED = "passed"


@dataclass(frozen=True)
class Replacement:
    """Pods of a changed predictor that replace the former ones, which still answer."""

    stage: str
    """The current stage of its newest pod."""
    diagnosis: Diagnosis | None = None
    """Why its pods do not become ready."""


@dataclass(frozen=True)
class Service:
    """An observed InferenceService. ``smoke`` is None before the first smoke prediction."""

    name: str
    version: str
    manifest: Manifest
    ready: bool = False
    url: str | None = None
    diagnosis: Diagnosis | None = None
    """Why it is not ready; always None when it is ready."""
    stage: str = ""
    """The current stage of its newest pod, while it is not ready."""
    smoke: str | None = None
    replacement: Replacement | None = None
    """The replacement of its pods, while it is ready."""
    replaced: bool = False
    """True when its pods were replaced and have not answered the example yet."""

    @property
    def passed(self) -> bool:
        return self.smoke == PASSED

    @property
    def verified(self) -> bool:
        """True when its runtime proves the digest that it serves."""
        served = self.manifest.get("spec", {}).get("predictor", {}).get("model", {})
        return bool(served.get("modelFormat", {}).get("name", MODEL_FORMAT) == MODEL_FORMAT)

    @property
    def broken(self) -> bool:
        """True when the failure persists without a change."""
        return self.diagnosis is not None and self.diagnosis.lasting


def service_name(model: Model, version: str) -> str:
    """Return the name of the version's objects, such as ``heart-3``.

    It is unique in the namespace and a DNS label.
    """
    return f"{model.name}-{version}"


def object_metadata(model: Model, version: str) -> dict[str, Any]:
    """Return the metadata of every object of a version. The labels select it."""
    metadata = owned_metadata(model, service_name(model, version))
    metadata["labels"][labels.VERSION] = version
    return metadata


def owned_metadata(model: Model, name: str) -> dict[str, Any]:
    """Return the metadata of an object of the Model.

    The Model is its owner, so that Kubernetes deletes it with the Model.
    """
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {labels.MODEL: model.name, labels.MANAGED_BY: labels.FIELD_MANAGER},
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
    """Return the desired InferenceService of one version of the model.

    It has no replica counts: the speed of KServe's own autoscaler cannot be configured, so the
    controller creates its own autoscaler.
    """
    chosen = model.spec.predictor or Predictor()
    uri = StorageUri(
        name=model.spec.registered_model,
        version=version,
        sha256=digest.removeprefix("sha256:"),
        allow=model.spec.formats,
        implementation=chosen.format in (None, MODEL_FORMAT),
    )
    metadata = object_metadata(model, version)
    metadata["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.name,
        "metadata": metadata,
        "spec": {"predictor": _predictor(model, chosen, str(uri))},
    }


def _predictor(model: Model, wanted: Predictor, uri: str) -> Manifest:
    """Return the predictor of a version.

    When its author chooses something, the pods have a hash of it as a label. A change replaces one
    pod after the other, and an old pod ends only after a new one is ready.
    """
    served: Manifest = {
        "modelFormat": {"name": wanted.format or MODEL_FORMAT},
        "runtime": wanted.runtime or RUNTIME,
        "storageUri": uri,
        "env": [*_batching(model.spec.batching), *(each.pod_variable() for each in wanted.env)],
    }
    if wanted.resources:
        served["resources"] = wanted.resources.manifest()
    predictor: Manifest = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 20,
        "model": served,
    }
    if wanted == Predictor():
        return predictor
    predictor |= {"deploymentStrategy": DEPLOYMENT_STRATEGY, **wanted.pod_spec()}
    if wanted.runtime:
        served["protocolVersion"] = "v2"
        predictor |= OTHER_RUNTIME_POD
    if wanted.pod_annotations:
        predictor["annotations"] = wanted.pod_annotations
    pod_labels = wanted.pod_labels
    return {
        **predictor,
        "labels": {**pod_labels, labels.TEMPLATE: template_hash(predictor, pod_labels)},
    }


def template_hash(*parts: Mapping[str, Any]) -> str:
    """Return a hash of the desired state that has the form of a label's value."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _batching(batching: Batching | None) -> list[dict[str, str]]:
    """Return MLServer's variables for batching.

    They are set to 0 when batching is off: a missing variable would not switch it off.
    """
    size, seconds = (batching.max_batch_size, batching.max_batch_time) if batching else (0, 0)
    return [
        {"name": "MLSERVER_MODEL_MAX_BATCH_SIZE", "value": str(size)},
        {"name": "MLSERVER_MODEL_MAX_BATCH_TIME", "value": f"{seconds:g}"},
    ]


def observed(manifest: Manifest, smoke: str | None = None) -> Service:
    """Return the service that a manifest with its status describes.

    An InferenceService that is being deleted counts as not ready.
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
        diagnosis=None if ready else _failure(manifest),
        smoke=smoke,
    )


def _failure(manifest: Manifest) -> Diagnosis | None:
    """Return the failure that KServe itself reports.

    Examples: a failed download, a spec without a matching runtime, pods that may not be created.
    """
    status = manifest.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    load = status.get("modelStatus", {})
    failure = load.get("lastFailureInfo", {})
    message = failure.get("message", "").strip()
    if load.get("transitionStatus") == "BlockedByFailedLoad":
        return load_failure(message or "the model could not be loaded")
    if load.get("transitionStatus") == "InvalidSpec":
        reason = failure.get("reason") or "InvalidSpec"
        message = message or "KServe rejects the InferenceService"
        if reason in _RUNTIME_REASONS:
            served = manifest["spec"]["predictor"]["model"]
            message += (
                f"; runtime {served['runtime']} must be enabled and list the format "
                f"{served['modelFormat']['name']} and the protocol v2: correct it, or set runtime "
                "and format in spec.predictor"
            )
        return Diagnosis(reason, message)
    predictor = conditions.get("PredictorReady", {})
    if predictor.get("reason") == "FailedCreate":  # quota, Pod Security
        return Diagnosis("PodsNotCreated", predictor.get("message", "its pods may not be created"))
    return None


def replacement_of(
    manifest: Manifest, pods: Sequence[Manifest], now: datetime
) -> Replacement | None:
    """Return the replacement of pods of a former template; None when there are none.

    ``pods`` are those of the InferenceService, the oldest first.
    """
    wanted = _template(manifest["spec"]["predictor"])
    over = ("Succeeded", "Failed")  # such as evicted pods, which stay for a long time
    running = [
        pod
        for pod in pods
        if not terminating(pod) and pod.get("status", {}).get("phase") not in over
    ]
    changed = [pod for pod in running if _template(pod["metadata"]) == wanted]
    if len(changed) == len(running):
        return None
    return Replacement(stage_of(changed), diagnosis_of(changed, now) or _failure(manifest))


def _template(labelled: Mapping[str, Any]) -> str:
    return str(labelled.get("labels", {}).get(labels.TEMPLATE, ""))


def terminating(manifest: Manifest) -> bool:
    """Return True when the object is being deleted."""
    return "deletionTimestamp" in manifest["metadata"]


def changes(actual: Manifest, wanted: Manifest) -> list[str]:
    """Return the paths at which the object differs, also when a template is not wanted any more."""
    found = list(differences(actual, wanted))
    former, new = (_template(each["spec"].get("predictor", {})) for each in (actual, wanted))
    if former and not new:
        found.append(f"spec.predictor.labels.{labels.TEMPLATE}")
    return found


def differences(actual: object, wanted: object, path: str = "") -> Iterator[str]:
    """Yield the paths at which the object differs from the wanted one.

    Additional fields, such as KServe's defaults, do not count. An empty list is that of an object
    without it, because the API server drops it.
    """
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for key, value in wanted.items():
            yield from differences(actual.get(key), value, f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(actual, list) and len(actual) == len(wanted):
        for index, (mine, theirs) in enumerate(zip(wanted, actual, strict=True)):
            yield from differences(theirs, mine, f"{path}[{index}]")
    elif actual != wanted and (actual is not None or wanted != []):
        yield path
