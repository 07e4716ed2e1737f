"""A thread that mirrors the cluster's objects of one kind."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from slipway_cluster.interface import Cluster, ClusterError, Kind, Manifest

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0

T = TypeVar("T")


class Watch(Generic[T]):
    """A list followed by a watch, repeated until stopped and after each failure.

    ``read`` converts a manifest to the stored value; it returns None to skip the object.
    ``publish`` receives a new mapping of all values by name after each change. The thread calls
    both.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        read: Callable[[Manifest], T | None],
        publish: Callable[[dict[str, T]], None],
        *,
        seconds: float,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._read = read
        self._publish = publish
        self._seconds = seconds
        self._stopped = threading.Event()
        self._problem: str | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"watch of {self._kind.name}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except (ClusterError, OSError) as error:
                # A lasting error, such as a missing permission, is logged once.
                if str(error) != self._problem:
                    log.warning("%s cannot be watched: %s", self._kind.name, error)
                self._problem = str(error)
                self._stopped.wait(PAUSE_SECONDS)
            except Exception:  # the thread's edge: without the thread the values would become stale
                log.exception("the watch of %s failed; it restarts", self._kind.name)
                self._stopped.wait(PAUSE_SECONDS)

    def _follow(self) -> None:
        """List all objects, then watch over one connection.

        The list also reveals deletions that happened without a connection.
        """
        values: dict[str, T] = {}
        for manifest in self._cluster.list(self._kind):
            self._update(values, manifest)
        self._publish(dict(values))
        self._problem = None
        for event in self._cluster.watch(self._kind, timeout=self._seconds):
            if self._stopped.is_set():
                return
            if event.type == "DELETED":
                values.pop(event.object["metadata"]["name"], None)
            else:
                self._update(values, event.object)
            self._publish(dict(values))

    def _update(self, values: dict[str, T], manifest: Manifest) -> None:
        value = self._read(manifest)
        if value is None:
            values.pop(manifest["metadata"]["name"], None)
        else:
            values[manifest["metadata"]["name"]] = value
