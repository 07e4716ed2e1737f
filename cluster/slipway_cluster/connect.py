"""The cluster that an application works on, chosen by a URL."""

from importlib.metadata import entry_points
from urllib.parse import urlsplit

from slipway_cluster.interface import Cluster, ClusterError

GROUP = "slipway.clusters"
"""Entry points of backends: the name is the URL's scheme, the object takes the URL and returns a
``Cluster`` or raises ``ClusterError``.
"""


def connect(url: str) -> Cluster:
    """Return the cluster at ``kubernetes://NAMESPACE``, or at a URL of an installed backend.

    On Kubernetes, the pod's service account logs in, else the kubeconfig. Raises ClusterError for
    other URLs.
    """
    parts = urlsplit(url)
    if parts.scheme == "kubernetes" and parts.netloc and parts.path in ("", "/"):
        # Loading the client takes a second and 20 MiB.
        from slipway_cluster.kubernetes_cluster import KubernetesCluster

        return KubernetesCluster.from_environment(parts.netloc)
    for backend in entry_points(group=GROUP, name=parts.scheme):
        cluster: Cluster = backend.load()(url)
        return cluster
    raise ClusterError(
        f"{url!r} is not a cluster: use kubernetes://NAMESPACE, or local:///absolute/folder "
        "where slipway-local is installed"
    )
