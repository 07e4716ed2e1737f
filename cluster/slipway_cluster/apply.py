"""Server-side apply, for one field manager.

What this manager set before and does not set now is removed; what others set stays. Lists are
replaced as a whole, which is where the API server would go on to merge by key. Source:
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
    """The part of an object that its author decides: no status, none of the server's metadata."""
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in _SERVER_SETS
    }
    return deepcopy(
        {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
    )
