"""Where a predictor is asked: at the pod with the fewest requests under way.

Pooled connections to a Service's address stay with the pods that were there when they were opened,
so that new replicas would get nothing; hence the gateway looks behind the Service, at the
EndpointSlices that the cluster keeps for it.
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
"""Time that an endpoint is spared after a connection to it failed."""

SERVICE_LABEL = "kubernetes.io/service-name"


class Endpoint:
    """A place where a predictor answers. Used by the event loop's thread alone."""

    __slots__ = ("aside_until", "host", "origin", "prefix", "under_way")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        """``http://10.244.0.7:8080``"""
        parts = urlsplit(origin)
        self.host, self.prefix = parts.netloc, parts.path
        self.under_way = 0
        """Requests sent and not answered."""
        self.aside_until = 0.0

    def set_aside(self) -> None:
        self.aside_until = time.monotonic() + ASIDE_SECONDS


@dataclass(frozen=True)
class Slice:
    """The part of an EndpointSlice that is read: origins of a Service's pods."""

    service: str
    """``heart-3-predictor.slipway``: name and namespace."""
    ready: tuple[str, ...]
    leaving: tuple[str, ...]
    """Terminating, and still answering."""


class Endpoints:
    """Readers see one immutable snapshot; the watching thread replaces it, and keeps the Endpoints
    that stay.
    """

    def __init__(self, cluster: Cluster, *, watch_seconds: float) -> None:
        self._watch = Watch(
            cluster, ENDPOINT_SLICE, read_slice, self._publish, seconds=watch_seconds
        )
        self.snapshot: Mapping[str, Sequence[Endpoint]] = MappingProxyType({})
        """By Service. A Service without an endpoint that answers is not in it."""

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()

    def choose(
        self, service: str | None, otherwise: Endpoint, failed: Endpoint | None = None
    ) -> Endpoint:
        """The endpoint for the next request, not the one that just ``failed`` if there is another.

        ``otherwise`` is the Service's own address, for when nothing is known about its pods (as
        when local).
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
        """How many pods share the requests to a Service; 1 when nothing is known about them."""
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
            # As kube-proxy does: those that leave are better than none (the only pod is replaced).
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
    """The one with the fewest requests under way, among equals one by chance; None if there is none
    but those left aside.
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
    """``heart-3-predictor.slipway`` of ``http://heart-3-predictor.slipway.svc.cluster.local``; None
    of any other URL.

    Pods are asked by address, for which no certificate is good: https is left to the Service.
    """
    parts = urlsplit(url)
    labels = (parts.hostname or "").split(".")
    if parts.scheme != "http" or labels[2:3] != ["svc"]:
        return None
    return f"{labels[0]}.{labels[1]}"


def read_slice(manifest: Manifest) -> Slice | None:
    """None for what no predictor has: a slice of no Service, or without a port."""
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
        elif conditions.get("ready") is not False:  # not said means ready
            ready.append(origin)
    return Slice(f"{name}.{metadata.get('namespace')}", tuple(ready), tuple(leaving))


def _origins(manifest: Manifest, port: int) -> Iterator[tuple[dict[str, Any], str]]:
    for endpoint in manifest.get("endpoints") or ():
        address = endpoint["addresses"][
            0
        ]  # the others mean the same endpoint, by the API's definition
        yield (
            endpoint,
            f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}",
        )
