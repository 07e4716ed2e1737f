"""Why a predictor does not get ready, in the words of its pods.

KServe reports a failed fetch, but not an image that cannot be pulled, a pod that fits nowhere, or a
runtime that crashes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from slipway_cluster import Manifest
from slipway_contract.registry import PACKAGE_SIGNATURE_FILE

LASTING_RESTARTS = 3
"""A container that ended this often will not get better by waiting."""

_SETTLED = timedelta(seconds=120)
"""A container that runs this long has left its former end behind."""

_IMAGE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ErrImageInspect"}
)
_NOT_CREATED = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong: a condition's CamelCase ``reason``, and its ``message``."""

    reason: str
    message: str
    lasting: bool = False
    """Whether it will stay so until someone acts: then traffic goes elsewhere, if it can."""
    silent: str | None = None
    """The container that crashed without a word in its status; its log may have some."""


def load_failure(message: str) -> Diagnosis:
    """The storage initializer, which checks signature and every byte and loads the model once, has
    refused.
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
    """The first trouble of the newest pod that has one. The pods are those of a predictor that is
    not ready, the oldest first.
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
    """What the newest pod is doing."""
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
    """Container statuses in the order in which containers start, and whether each is an init
    container.
    """
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
    said = waiting.get("message") or waiting.get("reason", "")
    if waiting.get("reason") in _IMAGE:
        return Diagnosis(
            "ImagePullFailed", f"{container['name']} has no image {container.get('image')}: {said}"
        )
    if waiting.get("reason") in _NOT_CREATED:
        return Diagnosis("ContainerNotCreated", f"{container['name']} cannot be created: {said}")
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
    how = (
        "ran out of memory"
        if ended.get("reason") == "OOMKilled"
        else f"ended with exit status {ended['exitCode']}"
    )
    text = f"{container['name']} {how} ({restarts} restarts)"
    return Diagnosis(
        "CrashLoop",
        f"{text}; its last words: {message.splitlines()[-1]}" if message else text,
        lasting=restarts >= LASTING_RESTARTS,
        silent=None if message else container["name"],
    )
