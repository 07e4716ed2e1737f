"""Which cluster an application works on."""

from pathlib import Path
from urllib.parse import urlsplit

from slipway_cluster.interface import Cluster, ClusterError
from slipway_cluster.local_cluster import LocalCluster


def connect(url: str) -> Cluster:
    """``local:///absolute/folder`` or ``kubernetes://NAMESPACE``.

    On Kubernetes: by the pod's service account, else by the kubeconfig. Raises ClusterError for
    other URLs.
    """
    parts = urlsplit(url)
    if parts.scheme == "local" and not parts.netloc and parts.path.startswith("/"):
        return LocalCluster(Path(parts.path))
    if parts.scheme == "kubernetes" and parts.netloc and parts.path in ("", "/"):
        # Loading the client takes a second and 20 MiB: only for those who have a cluster.
        from slipway_cluster.kubernetes_cluster import KubernetesCluster

        return KubernetesCluster.from_environment(parts.netloc)
    raise ClusterError(
        f"{url!r} is not a cluster: use local:///absolute/folder or kubernetes://NAMESPACE"
    )
