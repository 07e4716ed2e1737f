"""Which of several controllers may act: the one that holds a Lease.

A Deployment of one replica does not suffice. When its pod is deleted, evicted, or lost with its
node, the next one starts while the former may still be at work. Source of the procedure:
client-go's ``tools/leaderelection``.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from slipway_cluster import LEASE, Cluster, Conflict, Manifest, NotFound

NAME = "slipway-controller"


class Lease:
    """One process's claim. Not for several threads."""

    def __init__(
        self,
        cluster: Cluster,
        holder: str,
        seconds: int = 15,
        *,
        name: str = NAME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``holder`` differs between all processes; ``seconds`` is how long a claim lasts that is
        not renewed.
        """
        self._cluster = cluster
        self._holder = holder
        self.seconds = seconds
        self._name = name
        self._clock = clock
        self._seen: tuple[str, float] = ("", 0.0)
        """Resource version of the Lease, and when it was seen first, by this machine's clock:
        others' clocks may be wrong.
        """

    def hold(self) -> bool:
        """Take or renew the Lease; whether it is ours now. To be called every third of
        ``seconds``.
        """
        try:
            found = self._cluster.get(LEASE, self._name)
        except NotFound:
            # Two may do this at once. Who made it in the end is seen at the next call.
            self._cluster.apply(self._claim({}, self._holder))
            return False
        if self._belongs_to_another(found):
            return False
        try:
            self._cluster.apply(self._claim(found, self._holder))
        except Conflict:
            return False
        return True

    def release(self) -> None:
        """Let the next one begin at once."""
        try:
            found = self._cluster.get(LEASE, self._name)
            if found["spec"].get("holderIdentity") == self._holder:
                self._cluster.apply(self._claim(found, ""))
        except (NotFound, Conflict):
            return

    def _belongs_to_another(self, found: Manifest) -> bool:
        version = found["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        holder = found["spec"].get("holderIdentity", "")
        lasts = found["spec"].get("leaseDurationSeconds", self.seconds)
        return holder not in ("", self._holder) and self._clock() - self._seen[1] < lasts

    def _claim(self, found: Manifest, holder: str) -> Manifest:
        former = found.get("spec", {})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        same = former.get("holderIdentity") == holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": former.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": former.get("leaseTransitions", 0) + (0 if same or not found else 1),
        }
        metadata = {"name": self._name}
        if found:
            metadata["resourceVersion"] = found["metadata"]["resourceVersion"]
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": metadata,
            "spec": spec,
        }
