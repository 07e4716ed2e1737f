"""What the cluster has of one kind, kept up to date by a thread of its own."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from slipway_cluster.interface import Cluster, ClusterError, Kind, Manifest

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0

T = TypeVar("T")


class Watch(Generic[T]):
    """Lists, then follows each change, for ever; what the API server is away for, it learns
    afterwards.

    ``read`` makes of an object what is kept; None: nothing. ``publish`` gets all that is kept, by
    name, after each change; the mapping is its own. Both are called in the thread.
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
                if (
                    str(error) != self._problem
                ):  # without the right to watch, it would be said every second
                    log.warning("%s cannot be watched: %s", self._kind.name, error)
                self._problem = str(error)
                self._stopped.wait(PAUSE_SECONDS)
            except (
                Exception
            ):  # the thread's edge: a dead watcher would leave what is kept stale for ever
                log.exception("the watch of %s broke; it begins anew", self._kind.name)
                self._stopped.wait(PAUSE_SECONDS)

    def _follow(self) -> None:
        """One connection: the complete list, which also tells what went away unseen, then each
        change.
        """
        kept: dict[str, T] = {}
        for manifest in self._cluster.list(self._kind):
            self._note(kept, manifest)
        self._publish(dict(kept))
        self._problem = None
        for event in self._cluster.watch(self._kind, timeout=self._seconds):
            if self._stopped.is_set():
                return
            if event.type == "DELETED":
                kept.pop(event.object["metadata"]["name"], None)
            else:
                self._note(kept, event.object)
            self._publish(dict(kept))

    def _note(self, kept: dict[str, T], manifest: Manifest) -> None:
        found = self._read(manifest)
        if found is None:
            kept.pop(manifest["metadata"]["name"], None)
        else:
            kept[manifest["metadata"]["name"]] = found
