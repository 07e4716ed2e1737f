"""InferenceServices as KServe 0.20 resolves them in Standard mode: their pod, and their status."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from slipway_cluster.clock import stamp
from slipway_cluster.interface import Manifest

from slipway_local.standin.serving import (
    InferenceServiceSpec,
    ServedModel,
    ServingRuntimeSpec,
    StorageContainerSpec,
    SupportedFormat,
)
from slipway_local.standin.workload import PodSpec

INIT_CONTAINER = "storage-initializer"
MODEL_PATH = "/mnt/models"
VOLUME = "kserve-provision-location"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
SERVER_TYPE = "serving.kserve.io/server-type"
HASH_LABEL = "pod-template-hash"
CONDITIONS = ("PredictorReady", "Ready")


class Unresolved(Exception):
    """The InferenceService has no valid pod; ``reason`` is CamelCase, ``str()`` a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def pod_spec(
    service: Manifest, runtimes: Sequence[Manifest], storage: Sequence[Manifest]
) -> Manifest:
    """Return the predictor's pod from the ClusterServingRuntimes and ClusterStorageContainers.

    Raises Unresolved.
    """
    predictor = InferenceServiceSpec.model_validate(service["spec"]).predictor
    runtime = _runtime(service, runtimes)
    mount = {"name": VOLUME, "mountPath": MODEL_PATH}
    init = deepcopy(_storage_container(predictor.model.storage_uri, storage)["spec"]["container"])
    init |= {"name": INIT_CONTAINER, "args": [predictor.model.storage_uri, MODEL_PATH]}
    init["volumeMounts"] = [*init.get("volumeMounts", []), mount]
    (container,) = _rendered(runtime["spec"]["containers"], service["metadata"])
    container["volumeMounts"] = [*container.get("volumeMounts", []), {**mount, "readOnly": True}]
    container["env"] = _environment(service, runtime, container)
    container["resources"] = _resources(container, predictor.model)
    volumes = {
        each["name"]: each for each in (*runtime["spec"].get("volumes", []), *predictor.volumes)
    }
    spec = {
        "initContainers": [init],
        "containers": [container],
        "volumes": [*volumes.values(), {"name": VOLUME, "emptyDir": {}}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": predictor.termination_grace_period_seconds,
    }
    try:
        PodSpec.model_validate(spec)
    except ValidationError as error:
        raise Unresolved(
            "InvalidPredictorSpec", f"runtime and storage container do not make a pod: {error}"
        ) from None
    return spec


def pod_metadata(service: Manifest) -> Manifest:
    """Return labels and annotations of the predictor's pods."""
    predictor = InferenceServiceSpec.model_validate(service["spec"]).predictor
    own = {SERVICE_LABEL: service["metadata"]["name"]}
    return {
        "labels": {**service["metadata"].get("labels", {}), **predictor.labels, **own},
        "annotations": predictor.annotations,
    }


def template_hash(template: Manifest) -> str:
    """Return a hash of metadata and spec that changes whenever the pod must be replaced."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def status(service: Manifest, pods: Sequence[Manifest], now: datetime) -> Manifest:
    """Return the status from the pods, the oldest first; the URL is the newest ready pod's."""
    ready = [pod for pod in pods if is_ready(pod)]
    newest = pods[-1].get("status", {}) if pods else {}
    result: Manifest = {
        "observedGeneration": service["metadata"]["generation"],
        "modelStatus": _model_status(newest),
    }
    if ready:
        url = f"http://127.0.0.1:{_port(ready[-1])}"
        result |= {"url": url, "address": {"url": url}}
        observed = ("True", "", "")
    else:
        observed = ("False", "MinimumReplicasUnavailable", failure_message(newest))
    return result | {"conditions": conditions(service, CONDITIONS, *observed, now)}


def unresolved_status(
    service: Manifest, pods: Sequence[Manifest], problem: Unresolved, now: datetime
) -> Manifest:
    """Return the status of an InferenceService without a valid pod.

    It stays ready while pods of a former spec answer; KServe leaves them as they are.
    """
    failure = {"reason": problem.reason, "message": str(problem)}
    invalid = {
        "transitionStatus": "InvalidSpec",
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": failure,
    }
    if any(map(is_ready, pods)):
        return {**status(service, pods, now), "modelStatus": invalid}
    return {
        "observedGeneration": service["metadata"]["generation"],
        "modelStatus": invalid,
        "conditions": conditions(service, CONDITIONS, "False", problem.reason, str(problem), now),
    }


def is_ready(pod: Manifest) -> bool:
    """Return True when the pod is ready."""
    return any(
        container["ready"] for container in pod.get("status", {}).get("containerStatuses", [])
    )


def _runtime(service: Manifest, runtimes: Sequence[Manifest]) -> Manifest:
    model = InferenceServiceSpec.model_validate(service["spec"]).predictor.model
    if model.runtime:
        for runtime in runtimes:
            if runtime["metadata"]["name"] == model.runtime:
                if not any(_fits(model, offered) for offered in _formats(runtime)):
                    raise Unresolved(
                        "NoSupportingRuntime",
                        f"ClusterServingRuntime {model.runtime!r} does not list format "
                        f"{model.model_format.name!r}",
                    )
                spoken = ServingRuntimeSpec.model_validate(runtime["spec"]).protocol_versions
                if model.protocol_version and spoken and model.protocol_version not in spoken:
                    raise Unresolved(
                        "NoSupportingRuntime",
                        f"ClusterServingRuntime {model.runtime!r} does not list protocol "
                        f"{model.protocol_version!r}",
                    )
                return runtime
        raise Unresolved(
            "RuntimeNotRecognized", f"ClusterServingRuntime {model.runtime!r} does not exist"
        )
    for runtime in runtimes:
        if not runtime["spec"].get("disabled") and any(
            offered.auto_select and _fits(model, offered) for offered in _formats(runtime)
        ):
            return runtime
    raise Unresolved(
        "NoSupportingRuntime", f"no ClusterServingRuntime serves format {model.model_format.name!r}"
    )


def _formats(runtime: Manifest) -> Sequence[SupportedFormat]:
    return ServingRuntimeSpec.model_validate(runtime["spec"]).supported_model_formats


def _fits(model: ServedModel, offered: SupportedFormat) -> bool:
    wanted = model.model_format
    return offered.name == wanted.name and wanted.version in (None, offered.version)


def _storage_container(uri: str, storage: Sequence[Manifest]) -> Manifest:
    for each in storage:
        for offered in StorageContainerSpec.model_validate(each["spec"]).supported_uri_formats:
            if (offered.prefix and uri.startswith(offered.prefix)) or (
                offered.regex and re.match(offered.regex, uri)
            ):
                return each
    raise Unresolved("StorageURINotSupported", f"no ClusterStorageContainer fetches {uri!r}")


def _rendered(value: Any, metadata: Mapping[str, Any]) -> Any:
    """Replace every ``{{.Name}}`` and ``{{.Labels.x}}`` in the strings of ``value``."""
    if isinstance(value, str):
        return re.sub(r"\{\{\s*\.([\w.]+)\s*\}\}", lambda match: _field(match[1], metadata), value)
    if isinstance(value, dict):
        return {key: _rendered(each, metadata) for key, each in value.items()}
    return [_rendered(each, metadata) for each in value] if isinstance(value, list) else value


def _field(path: str, metadata: Mapping[str, Any]) -> str:
    group, _, key = path.partition(".")
    if group in ("Name", "Namespace"):
        return str(metadata[group.lower()])
    if group in ("Labels", "Annotations") and key in metadata.get(group.lower(), {}):
        return str(metadata[group.lower()][key])
    raise Unresolved(
        "InvalidPredictorSpec",
        f"the runtime uses {{{{.{path}}}}}, which the InferenceService does not have",
    )


def _environment(service: Manifest, runtime: Manifest, container: Manifest) -> list[Manifest]:
    name = service["metadata"]["name"]
    added = {"INFERENCE_SERVICE_NAME": name}
    if runtime["metadata"].get("annotations", {}).get(SERVER_TYPE) == "mlserver":
        added |= {"MLSERVER_MODEL_NAME": name, "MLSERVER_MODEL_URI": MODEL_PATH}
    every = [
        *container.get("env", []),
        *({"name": key, "value": value} for key, value in added.items()),
        *service["spec"]["predictor"]["model"].get("env", []),
    ]
    return list({each["name"]: each for each in every}.values())


def _resources(container: Manifest, model: ServedModel) -> Manifest:
    """Return the runtime's resources with those of the InferenceService in their place.

    They are visible in the pod, and a process is not limited by them: that needs cgroups, for which
    the stand-in has no rights.
    """
    given = model.resources.model_dump()
    return {
        key: {**container.get("resources", {}).get(key, {}), **given[key]}
        for key in ("requests", "limits")
    }


def _port(pod: Manifest) -> int:
    """Return the real port of the first container port, the target of KServe's Service, or 8080."""
    ports = pod["spec"]["containers"][0].get("ports", [])
    wanted = ports[0]["containerPort"] if ports else 8080
    return int(pod["status"]["ports"].get(str(wanted), wanted))


def _model_status(pod: Manifest) -> Manifest:
    """Return KServe's ``modelStatus``: it has failures of the storage initializer only (0.20)."""
    if any(container["ready"] for container in pod.get("containerStatuses", [])):
        return _states("UpToDate", "Loaded", "Loaded")
    for container in pod.get("initContainerStatuses", []):
        for state in (container["state"], container["lastState"]):
            ended = state.get("terminated")
            if ended and ended["exitCode"] != 0:
                failure = {
                    "reason": "ModelLoadFailed",
                    "exitCode": ended["exitCode"],
                    "message": ended["message"],
                }
                return _states("BlockedByFailedLoad", "", "FailedToLoad") | {
                    "lastFailureInfo": failure
                }
            if ended:
                break
    loading = any("running" in container["state"] for container in pod.get("containerStatuses", []))
    return _states("InProgress", "", "Loading" if loading else "Pending")


def _states(transition: str, active: str, target: str) -> Manifest:
    return {
        "transitionStatus": transition,
        "states": {"activeModelState": active, "targetModelState": target},
    }


def failure_message(pod: Manifest) -> str:
    """Return the message of the condition: the container that ended last, and how."""
    for container in [*pod.get("initContainerStatuses", []), *pod.get("containerStatuses", [])]:
        ended = container["state"].get("terminated") or container["lastState"].get("terminated")
        if ended and (ended["exitCode"] != 0 or container["restartCount"]):
            starts = f"{container['restartCount']} restarts"
            return (
                f"container {container['name']} ended with {ended['exitCode']} ({starts}): "
                f"{ended['message']}"
            )
    return "the pod is not ready yet"


def conditions(
    owner: Manifest, kinds: Sequence[str], observed: str, reason: str, message: str, now: datetime
) -> list[Manifest]:
    """Return conditions of these kinds; one keeps the time of its last change of ``status``."""
    former = {each["type"]: each for each in owner.get("status", {}).get("conditions", [])}
    result = []
    for kind in kinds:
        old = former.get(kind)
        since = old["lastTransitionTime"] if old and old["status"] == observed else stamp(now)
        condition = {
            "type": kind,
            "status": observed,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        }
        result.append({key: value for key, value in condition.items() if value})
    return result
