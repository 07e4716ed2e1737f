"""Load balancing between the pods of a predictor by the least number of active requests.

A pooled connection to a Service's address stays with one pod, so that new replicas would get no
requests. The gateway therefore reads the EndpointSlices of the Service and connects to the pods.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from slipway_cluster.interface import ENDPOINT_SLICE, Cluster, Manifest

from slipway_gateway.inference.watch import Watch

ASIDE_SECONDS = 1.0
"""Time without requests to an endpoint after a failed connection, in seconds."""

SERVICE_LABEL = "kubernetes.io/service-name"


class Endpoint:
    """An address of a predictor. Only the event loop's thread may use it."""

    __slots__ = ("aside_until", "host", "origin", "prefix", "under_way")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        """``http://10.244.0.7:8080``"""
        parts = urlsplit(origin)
        self.host, self.prefix = parts.netloc, parts.path
        self.under_way = 0
        """Number of requests without a response so far."""
        self.aside_until = 0.0

    def set_aside(self) -> None:
        self.aside_until = time.monotonic() + ASIDE_SECONDS


@dataclass(frozen=True)
class Slice:
    """The content of an EndpointSlice: the origins of a Service's pods."""

    service: str
    """Name and namespace, for example ``heart-3-predictor.slipway``."""
    ready: tuple[str, ...]
    leaving: tuple[str, ...]
    """Pods that are terminating and still serving."""


class Endpoints:
    """The endpoints of all Services.

    Readers use an immutable snapshot. The watch thread replaces it and reuses the Endpoint objects
    of unchanged pods.
    """

    def __init__(self, cluster: Cluster, *, watch_seconds: float) -> None:
        self._watch = Watch(
            cluster, ENDPOINT_SLICE, read_slice, self._publish, seconds=watch_seconds
        )
        self.snapshot: Mapping[str, Sequence[Endpoint]] = MappingProxyType({})
        """Endpoints by Service; a Service without a serving endpoint is missing."""

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()

    def choose(
        self, service: str | None, otherwise: Endpoint, failed: Endpoint | None = None
    ) -> Endpoint:
        """Return the endpoint for the next request, if possible another one than ``failed``.

        ``otherwise`` is the Service's own address. It is returned when the pods are unknown, as in
        local mode.
        """
        known = self.snapshot.get(service) if service else None
        if not known:
            return otherwise
        return (
            _least_busy(known, failed, time.monotonic())
            or _least_busy(known, failed, float("inf"))
            or known[0]
        )

    def count(self, service: str | None) -> int:
        """Return the number of pods of a Service; 1 when the pods are unknown."""
        return len(self.snapshot.get(service) or (None,)) if service else 1

    def _publish(self, slices: dict[str, Slice]) -> None:
        by_service: dict[str, list[Slice]] = {}
        for each in slices.values():
            by_service.setdefault(each.service, []).append(each)
        old = {
            (service, each.origin): each
            for service, group in self.snapshot.items()
            for each in group
        }
        new: dict[str, Sequence[Endpoint]] = {}
        for service, group in by_service.items():
            # Like kube-proxy: without a ready pod, terminating ones get the requests.
            origins = {o for each in group for o in each.ready} or {
                o for each in group for o in each.leaving
            }
            if origins:
                new[service] = tuple(
                    old.get((service, origin)) or Endpoint(origin) for origin in sorted(origins)
                )
        self.snapshot = MappingProxyType(new)


def _least_busy(
    endpoints: Sequence[Endpoint], failed: Endpoint | None, now: float
) -> Endpoint | None:
    """Return the endpoint with the fewest active requests; a random one among equals.

    Return None when ``failed`` and the endpoints set aside are the only ones.
    """
    best, ties = None, 1
    for each in endpoints:
        if each is failed or each.aside_until > now:
            continue
        if best is None or each.under_way < best.under_way:
            best, ties = each, 1
        elif each.under_way == best.under_way:
            ties += 1
            if random.random() * ties < 1:  # noqa: S311  (load balancing, not cryptography)
                best = each
    return best


def service_of(url: str) -> str | None:
    """Return the Service of a cluster-local http URL as ``name.namespace``; None for other URLs.

    Example: ``http://heart-3-predictor.slipway.svc.cluster.local`` gives
    ``heart-3-predictor.slipway``. With https the gateway uses the Service's own address, because no
    certificate is valid for a pod's address.
    """
    parts = urlsplit(url)
    labels = (parts.hostname or "").split(".")
    if parts.scheme != "http" or labels[2:3] != ["svc"]:
        return None
    return f"{labels[0]}.{labels[1]}"


def read_slice(manifest: Manifest) -> Slice | None:
    """Parse an EndpointSlice; return None for one without a Service, a port or an IP address."""
    metadata = manifest["metadata"]
    name, ports = metadata.get("labels", {}).get(SERVICE_LABEL), manifest.get("ports")
    if not name or not ports or manifest.get("addressType") not in ("IPv4", "IPv6"):
        return None
    port = ports[0]["port"]  # KServe gives a predictor's Service one
    ready, leaving = [], []
    for endpoint, origin in _origins(manifest, port):
        conditions = endpoint.get("conditions", {})
        if conditions.get("terminating"):
            leaving += [origin] if conditions.get("serving") else []
        elif conditions.get("ready") is not False:  # a missing condition means ready
            ready.append(origin)
    return Slice(f"{name}.{metadata.get('namespace')}", tuple(ready), tuple(leaving))


def _origins(manifest: Manifest, port: int) -> Iterator[tuple[dict[str, Any], str]]:
    for endpoint in manifest.get("endpoints") or ():
        address = endpoint["addresses"][0]  # the API defines all of them as the same endpoint
        host = f"[{address}]" if ":" in address else address
        yield endpoint, f"http://{host}:{port}"
