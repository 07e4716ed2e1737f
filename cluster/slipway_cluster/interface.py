"""What Slipway asks of a cluster. Objects are Kubernetes JSON, the same on a real cluster and
local.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Manifest = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, spec, status."""


@dataclass(frozen=True)
class Kind:
    """A resource type."""

    api_version: str
    name: str
    namespaced: bool = True


JOB = Kind("batch/v1", "Job")
CRON_JOB = Kind("batch/v1", "CronJob")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService")
CLUSTER_SERVING_RUNTIME = Kind(
    "serving.kserve.io/v1alpha1", "ClusterServingRuntime", namespaced=False
)
CLUSTER_STORAGE_CONTAINER = Kind(
    "serving.kserve.io/v1alpha1", "ClusterStorageContainer", namespaced=False
)
MODEL = Kind("serving.slipway.dev/v1alpha1", "Model")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice")
"""The pods behind a Service, kept by the cluster; read only."""
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler")
LEASE = Kind("coordination.k8s.io/v1", "Lease")
POD = Kind("v1", "Pod")
"""Made by the cluster for Jobs and InferenceServices; read through ``Cluster.pods``."""
EVENT = Kind("v1", "Event")
"""Written through ``Cluster.record``, read through ``Cluster.events``."""


class ClusterError(Exception):
    """A call to the cluster failed; ``str()`` says what to do where that is known."""


class NotFound(ClusterError):
    """There is no such object."""


class Conflict(ClusterError):
    """The object was changed by someone else since it was read, or exists already."""


class Invalid(ClusterError):
    """The cluster refuses the object; the message names the field."""


@dataclass(frozen=True)
class WatchEvent:
    """A change of one object. After a (re)connection every existing object comes first, as
    ADDED.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Manifest


class Cluster(Protocol):
    """Jobs, CronJobs, InferenceServices, their autoscalers, and Models of one namespace.

    Every call blocks; all are safe to repeat.
    """

    def apply(self, manifest: Manifest) -> Manifest:
        """Create or change the object by server-side apply with our field manager; ``status`` is
        ignored.

        Raises Invalid, Conflict.
        """

    def get(self, kind: Kind, name: str) -> Manifest:
        """Raises NotFound."""

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Objects that bear all the labels, by name."""

    def delete(self, kind: Kind, name: str) -> None:
        """Remove the object and what it owns; nothing happens when there is none."""

    def update_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> Manifest:
        """Replace the status. Raises NotFound."""

    def watch(self, kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        """Existing objects, then changes as they happen, until ``timeout`` seconds have passed
        (None: for ever).
        """

    def create_job(
        self,
        cron_job: str,
        *,
        name: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Manifest:
        """A Job from a CronJob's template, like ``kubectl create job --from``; works on a suspended
        one.

        ``args`` are appended to the first container's, ``env`` is added to it; both arrive as they
        are, also where they have a ``$(NAME)``. ``labels`` and ``annotations`` are added to the
        Job's own. Raises NotFound, Conflict (name taken).
        """

    def suspend(self, cron_job: str, suspended: bool) -> Manifest:
        """Stop or start a CronJob's schedule. Raises NotFound."""

    def logs(
        self, kind: Kind, name: str, *, container: str | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Lines of the object's newest running pod, else of the one that ended last; with
        ``follow`` until it ends.

        Raises NotFound.
        """

    def pods(self, kind: Kind, name: str) -> Sequence[Manifest]:
        """Pods of a Job or an InferenceService, the oldest first; none when there is no such
        object.
        """

    def record(self, about: Manifest, *, reason: str, message: str, warning: bool = False) -> None:
        """An Event on the object, as ``kubectl describe`` shows it; the same one again is counted,
        not written anew.
        """

    def events(self, about: Manifest) -> Sequence[Manifest]:
        """Events on this very object (not on a former one of its name) that the cluster still
        keeps, the latest last.
        """
