"""A LocalCluster with its Kubelet in this process."""

import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from slipway_cluster import INFERENCE_SERVICE, Manifest
from slipway_local.standin.kubelet import Backoff, Crash, Image, Kubelet, KubeletOptions
from slipway_local.standin.local_cluster import LocalCluster

from tests.cluster.manifests import IMAGE
from tests.support.waiting import SECONDS, until

IMAGES = {IMAGE: Image(Path(sys.executable).parent)}
QUICK = KubeletOptions(
    backoff=Backoff(first=0.2, longest=2, reset_after=600), turn_seconds=0.1, log_bytes=64 * 1024
)


class Machine:
    """A local cluster whose kubelet can be restarted and whose clock can be moved."""

    def __init__(self, root: Path, options: KubeletOptions = QUICK) -> None:
        self.root = root
        self.cluster = LocalCluster(root)
        self.crashes: list[Crash] = []
        self.ahead = timedelta()
        self._options = options
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    @contextmanager
    def running(cls, root: Path, options: KubeletOptions = QUICK) -> Iterator[Self]:
        """Run a machine in this block."""
        machine = cls(root, options)
        machine.start()
        yield machine
        machine.stop()
        machine.cluster.close()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def start(self) -> None:
        kubelet = Kubelet(
            self.root, IMAGES, options=self._options, crashed=self.crashes.append, clock=self.now
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=kubelet.run, args=(self._stop,))
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def service(self, name: str, holds: Callable[[Manifest], object]) -> Manifest:
        """Return the InferenceService's status once the condition holds."""
        return until(lambda: self.cluster.get(INFERENCE_SERVICE, name).get("status", {}), holds)

    def url_of_ready(self, name: str) -> str:
        return str(self.service(name, is_ready)["address"]["url"])


def is_ready(status: Manifest) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in status.get("conditions", [])
    )


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return str(answer.read().decode())
