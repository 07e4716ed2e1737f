"""The one door to Kubernetes, and the stand-in that runs the same objects as local processes."""

from slipway_cluster.connect import connect
from slipway_cluster.interface import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CRON_JOB,
    INFERENCE_SERVICE,
    JOB,
    MODEL,
    Cluster,
    ClusterError,
    Conflict,
    Invalid,
    Kind,
    Manifest,
    NotFound,
    WatchEvent,
)

__all__ = [
    "CLUSTER_SERVING_RUNTIME",
    "CLUSTER_STORAGE_CONTAINER",
    "CRON_JOB",
    "INFERENCE_SERVICE",
    "JOB",
    "MODEL",
    "Cluster",
    "ClusterError",
    "Conflict",
    "Invalid",
    "Kind",
    "Manifest",
    "NotFound",
    "WatchEvent",
    "connect",
]
