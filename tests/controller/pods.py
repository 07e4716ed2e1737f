"""Pods as a kubelet reports them."""

from datetime import UTC, datetime
from typing import Any

from slipway_cluster import Manifest

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pod(
    *containers: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    conditions: tuple[dict[str, Any], ...] = (),
) -> Manifest:
    status = {
        "containerStatuses": list(containers),
        "initContainerStatuses": list(init),
        "conditions": list(conditions),
    }
    return {"metadata": {"name": "heart-1-predictor-x"}, "status": status}


def container(
    state: dict[str, Any],
    last: dict[str, Any] | None = None,
    restarts: int = 0,
    name: str = "kserve-container",
) -> Manifest:
    return {
        "name": name,
        "image": "slipway/serving:dev",
        "state": state,
        "lastState": last or {},
        "restartCount": restarts,
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def running(since: str = "2026-01-01T11:59:30Z") -> dict[str, Any]:
    return {"running": {"startedAt": since}}


def terminated(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}
