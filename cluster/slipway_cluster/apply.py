"""The part of an object that server-side apply sends."""

from copy import deepcopy

from slipway_cluster.interface import Manifest

_SERVER_SETS = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
)


def intent(manifest: Manifest) -> Manifest:
    """Return the part of an object that its author decides: no status, no server metadata."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in _SERVER_SETS
    }
    return deepcopy(
        {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
    )
