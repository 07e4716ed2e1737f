"""Diagnosis of a predictor that does not become ready, from the status of its pods.

KServe reports a failed download, but not an image that cannot be pulled, a pod that no node can
take, or a runtime that crashes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slipway_cluster import Manifest
from slipway_contract.registry import PACKAGE_SIGNATURE_FILE

LASTING_RESTARTS = 3
"""Restarts after which a container is not expected to recover without a change."""

_SETTLED = timedelta(seconds=120)
"""Run time after which a former exit of a container no longer counts."""

_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ErrImageInspect"}
)
_NOT_CREATED = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


@dataclass(frozen=True)
class Diagnosis:
    """A failure: ``reason`` is a condition's CamelCase reason, ``message`` its text."""

    reason: str
    message: str
    lasting: bool = False
    """True when the failure persists until a person acts; traffic then fails over, if possible."""
    silent: str | None = None
    """Name of a container that crashed without a termination message; its log may have one."""


def load_failure(message: str) -> Diagnosis:
    """Return the diagnosis for the message of a failed storage initializer.

    The storage initializer verifies the package signature and every byte, and loads the model once.
    """
    if f"{PACKAGE_SIGNATURE_FILE}: " in message:
        return Diagnosis(
            "SignatureMissing" if "is not signed" in message else "SignatureInvalid",
            message,
            lasting=True,
        )
    return Diagnosis(
        "DigestMismatch" if "digest" in message else "ModelLoadFailed", message, lasting=True
    )


def diagnosis_of(pods: Sequence[Manifest], now: datetime) -> Diagnosis | None:
    """Return the first failure of the newest pod that has one.

    ``pods`` are those of a predictor that is not ready, the oldest first.
    """
    for pod in reversed(pods):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        stuck = (_stuck(container, now, is_init=is_init) for container, is_init in _containers(pod))
        for found in (_unscheduled(pod), *stuck):
            if found:
                return found
    return None


def stage_of(pods: Sequence[Manifest]) -> str:
    """Return the current stage of the newest pod."""
    if not pods:
        return "it has no pod yet"
    for container, _ in _containers(pods[-1]):
        state = container.get("state", {})
        if "running" in state:
            return f"{container['name']} is running"
        if "waiting" in state:
            return f"{container['name']} waits: {state['waiting'].get('reason', 'not started')}"
    return "its pod is pending"


def _containers(pod: Manifest) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield container statuses in start order, each with True for an init container."""
    status = pod.get("status", {})
    yield from ((each, True) for each in status.get("initContainerStatuses", []))
    yield from ((each, False) for each in status.get("containerStatuses", []))


def _unscheduled(pod: Manifest) -> Diagnosis | None:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Diagnosis("Unschedulable", condition.get("message") or "no node takes its pod")
    return None


def _stuck(container: dict[str, Any], now: datetime, *, is_init: bool) -> Diagnosis | None:
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    message = waiting.get("message") or waiting.get("reason", "")
    if waiting.get("reason") in _IMAGE:
        return Diagnosis(
            "ImagePullFailed",
            f"{container['name']} has no image {container.get('image')}: {message}",
        )
    if waiting.get("reason") in _NOT_CREATED:
        return Diagnosis("ContainerNotCreated", f"{container['name']} cannot be created: {message}")
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or _has_settled(state, now) or (is_init and ended["exitCode"] == 0):
        return None
    return _crashed(container, ended, is_init=is_init)


def _has_settled(state: dict[str, Any], now: datetime) -> bool:
    started = state.get("running", {}).get("startedAt")
    return bool(started) and now - datetime.fromisoformat(started) > _SETTLED


def _crashed(container: dict[str, Any], ended: dict[str, Any], *, is_init: bool) -> Diagnosis:
    message = (ended.get("message") or "").strip()
    if is_init and message:
        return load_failure(message)
    restarts = container.get("restartCount", 0)
    out_of_memory = ended.get("reason") == "OOMKilled"
    how = "ran out of memory" if out_of_memory else f"ended with exit status {ended['exitCode']}"
    text = f"{container['name']} {how} ({restarts} restarts)"
    return Diagnosis(
        "CrashLoop",
        f"{text}; its last log line: {message.splitlines()[-1]}" if message else text,
        lasting=restarts >= LASTING_RESTARTS,
        silent=None if message else container["name"],
    )
