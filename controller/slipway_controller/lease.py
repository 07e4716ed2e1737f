"""Leader election: only the controller that holds the Lease acts.

A Deployment of one replica does not suffice. When its pod is deleted, evicted, or lost with its
node, the next pod starts while the former may still run. Source of the procedure: client-go's
``tools/leaderelection``.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from slipway_cluster import LEASE, Cluster, Conflict, Manifest, NotFound

NAME = "slipway-controller"


class Lease:
    """The claim of one process to the Lease. Not thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        holder: str,
        seconds: int = 15,
        *,
        name: str = NAME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a claim; this sends no request.

        ``holder`` is unique to the process; a claim expires ``seconds`` after its last renewal.
        """
        self._cluster = cluster
        self._holder = holder
        self.seconds = seconds
        self._name = name
        self._clock = clock
        self._seen: tuple[str, float] = ("", 0.0)
        """Resource version of the Lease, and the local monotonic time at which it was seen first;
        the clocks of other machines are not used.
        """

    def hold(self) -> bool:
        """Take or renew the Lease and return whether this process holds it.

        Call it at least every third of ``seconds``.
        """
        try:
            found = self._cluster.get(LEASE, self._name)
        except NotFound:
            # Two processes may do this at the same time; the next call shows which one won.
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
        """Release the Lease so that the next process can take it immediately."""
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
