"""Interface of a cluster. Objects are Kubernetes JSON on real and on local clusters."""

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
"""The pods behind a Service; the cluster writes it, Slipway only reads it."""
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler")
LEASE = Kind("coordination.k8s.io/v1", "Lease")
POD = Kind("v1", "Pod")
"""The cluster creates Pods for Jobs and InferenceServices; ``Cluster.pods`` returns them."""
EVENT = Kind("v1", "Event")
"""Written by ``Cluster.record``, read by ``Cluster.events``."""


class ClusterError(Exception):
    """A failed call to the cluster; ``str()`` has the remedy where it is known."""


class NotFound(ClusterError):
    """The object does not exist."""


class Conflict(ClusterError):
    """The object was changed since it was read, or exists already."""


class Invalid(ClusterError):
    """The cluster rejects the object; the message names the field."""


@dataclass(frozen=True)
class WatchEvent:
    """A change of one object; after a (re)connection, every existing object is ADDED first."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Manifest


class Cluster(Protocol):
    """Jobs, CronJobs, InferenceServices, their autoscalers, and Models of one namespace.

    Every call blocks and can be repeated safely.
    """

    def apply(self, manifest: Manifest) -> Manifest:
        """Create or change the object, without ``status``, by server-side apply.

        Raises Invalid, Conflict.
        """

    def create(self, manifest: Manifest) -> Manifest:
        """Create the object, without ``status``. Raises Invalid, Conflict (name taken)."""

    def replace(self, manifest: Manifest) -> Manifest:
        """Replace metadata and spec of the object that has the manifest's ``resourceVersion``.

        Raises Invalid, NotFound, and Conflict when it was changed since it was read.
        """

    def get(self, kind: Kind, name: str) -> Manifest:
        """Return the object; raise NotFound."""

    def list(self, kind: Kind, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return the objects that have all the labels, sorted by name."""

    def delete(self, kind: Kind, name: str, *, version: str | None = None) -> None:
        """Delete the object and its dependants; do nothing when it does not exist.

        ``version``: delete only this ``resourceVersion``. Raises Conflict when it has another one.
        """

    def update_status(self, kind: Kind, name: str, status: Mapping[str, Any]) -> Manifest:
        """Replace the status; raise NotFound."""

    def remove_field(self, kind: Kind, name: str, field: str, value: Any) -> Manifest:
        """Remove a field of the spec that has this value.

        Raises NotFound, and Conflict when it has another one.
        """

    def watch(self, kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        """Yield existing objects, then changes, for ``timeout`` seconds (None: indefinitely)."""

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
        """Create a Job from a CronJob's template, like ``kubectl create job --from``.

        The CronJob may be suspended. ``args`` are appended to those of the first container, ``env``
        is added to it; both arrive literally, even with a ``$(NAME)``. ``labels`` and
        ``annotations`` are added to the Job's own. Raises NotFound, Conflict (name taken).
        """

    def suspend(self, cron_job: str, suspended: bool) -> Manifest:
        """Suspend or resume a CronJob's schedule; raise NotFound."""

    def logs(
        self, kind: Kind, name: str, *, container: str | None = None, follow: bool = False
    ) -> Iterator[str]:
        """Yield log lines of the newest running pod, else of the one that ended last.

        With ``follow`` the log is followed until the pod ends. Raises NotFound.
        """

    def pods(self, kind: Kind, name: str) -> Sequence[Manifest]:
        """Return the pods of a Job or InferenceService, the oldest first; none if unknown."""

    def record(self, about: Manifest, *, reason: str, message: str, warning: bool = False) -> None:
        """Record an Event on the object; increase the count of an Event that exists already."""

    def events(self, about: Manifest) -> Sequence[Manifest]:
        """Return the Events of this object, not of a former one with its name, the latest last."""
