"""Selection of the cluster by URL."""

from pathlib import Path
from urllib.parse import urlsplit

from slipway_cluster.interface import Cluster, ClusterError
from slipway_cluster.local_cluster import LocalCluster


def connect(url: str) -> Cluster:
    """Return the cluster of ``local:///absolute/folder`` or ``kubernetes://NAMESPACE``.

    On Kubernetes the credentials are the pod's service account, else the kubeconfig. Raises
    ClusterError for other URLs.
    """
    parts = urlsplit(url)
    if parts.scheme == "local" and not parts.netloc and parts.path.startswith("/"):
        return LocalCluster(Path(parts.path))
    if parts.scheme == "kubernetes" and parts.netloc and parts.path in ("", "/"):
        # Loading the client takes a second and 20 MiB.
        from slipway_cluster.kubernetes_cluster import KubernetesCluster

        return KubernetesCluster.from_environment(parts.netloc)
    raise ClusterError(
        f"{url!r} is not a cluster: use local:///absolute/folder or kubernetes://NAMESPACE"
    )
