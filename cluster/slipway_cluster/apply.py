"""Server-side apply for one field manager.

Fields that this manager set before and does not set now are removed; fields of others stay. Lists
are replaced as a whole, where the API server would merge by key. Source:
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

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
