"""A Model of a later release, which processes of this release read during an upgrade."""

from typing import Any

from slipway_cluster import MODEL, Manifest
from slipway_local.standin.local_cluster import LocalCluster

INVENTED = "fieldOfALaterRelease"


def of_a_later_release(manifest: Manifest) -> Manifest:
    """Return the Model with an additional field in each object, and with unknown values."""
    given: dict[str, Any] = {
        part: _with_more(manifest.get(part, {})) for part in ("spec", "status")
    }
    given["spec"]["allowFormats"] = [*given["spec"].get("allowFormats", []), "safetensors"]
    given["spec"].setdefault("scale", {})[INVENTED] = {"most": 1000}
    now = "2026-01-01T12:00:00Z"
    condition = {
        "type": "Shadowing",
        "status": "True",
        "reason": "Compared",
        "message": "",
        "lastTransitionTime": now,
    }
    given["status"].setdefault("conditions", []).append(condition)
    for target in given["status"].get("traffic", [])[1:]:
        target["role"] = "shadow"
    return {**manifest, **given}


def store(cluster: LocalCluster, name: str) -> None:
    """Replace the stored Model by one of a later release; admission would reject it."""
    with cluster.store.transaction():
        old = cluster.get(MODEL, name)
        cluster.store.replace(old, of_a_later_release(old))


def _with_more(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            **{key: _with_more(value) for key, value in node.items()},
            INVENTED: {"nested": [1]},
        }
    return [_with_more(each) for each in node] if isinstance(node, list) else node
