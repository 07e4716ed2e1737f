"""Routing: selection of the version that serves a request.

A thread watches the cluster and publishes snapshots of the Models' traffic lists.
"""

import asyncio
import bisect
import itertools
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import ValidationError
from slipway_cluster.interface import MODEL, Cluster, Manifest
from slipway_contract.model import ConditionType, RoutedModel, TrafficTarget

from slipway_gateway.errors import Headers, NotFound, Unavailable
from slipway_gateway.inference.endpoints import Endpoint, service_of
from slipway_gateway.inference.watch import Watch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A served version with precomputed values for the requests to it."""

    model: str
    traffic: TrafficTarget
    endpoint: Endpoint = field(init=False, compare=False)
    """The predictor's URL, behind which the cluster may have several pods."""
    kubernetes_service: str | None = field(init=False)
    """The Service that the URL names, as ``name.namespace``."""
    infer_path: str = field(init=False)
    metadata_url: str = field(init=False)
    headers: Headers = field(init=False)
    own_name: re.Pattern[bytes] = field(init=False)
    """Pattern of a response that begins with the predictor's model name; group 1 precedes it."""

    def __post_init__(self) -> None:
        traffic = self.traffic
        origin, path = traffic.url.rstrip("/"), f"/v2/models/{traffic.service}"
        names = (
            (b"slipway-model", self.model),
            (b"slipway-version", traffic.version),
            (b"slipway-digest", traffic.digest),
        )
        own_name = rb'(\s*\{\s*"model_name"\s*:\s*)"' + re.escape(traffic.service.encode()) + b'"'
        object.__setattr__(self, "endpoint", Endpoint(origin))
        object.__setattr__(self, "kubernetes_service", service_of(origin))
        object.__setattr__(self, "infer_path", f"{path}/infer")
        object.__setattr__(self, "metadata_url", origin + path)
        object.__setattr__(self, "headers", [(name, value.encode()) for name, value in names])
        object.__setattr__(self, "own_name", re.compile(own_name))

    @property
    def version(self) -> str:
        return self.traffic.version

    @property
    def digest(self) -> str:
        return self.traffic.digest


class Route:
    """The versions of one model and their shares of the traffic."""

    def __init__(self, model: RoutedModel) -> None:
        self.model = model
        self.targets = {
            target.version: Target(model.name, target) for target in model.status.traffic
        }
        self._weighted = [target for target in self.targets.values() if target.traffic.percent]
        self._sums = list(itertools.accumulate(target.traffic.percent for target in self._weighted))

    @property
    def ready(self) -> bool:
        return bool(self._weighted)

    @property
    def live(self) -> Target | None:
        """The version with the largest share."""
        return max(self._weighted, key=lambda target: target.traffic.percent, default=None)

    @property
    def message(self) -> str:
        """The message of the Ready condition."""
        ready = self.model.status.condition(ConditionType.READY)
        return (ready.message or ready.reason) if ready else "no version has been served yet"

    def pick(self) -> Target:
        """Return a random version, weighted by the traffic shares. Raises Unavailable."""
        if not self._weighted:
            raise Unavailable(f"model {self.model.name} is not ready: {self.message}")
        if len(self._weighted) == 1:
            return self._weighted[0]
        # Load balancing, not cryptography.
        return self._weighted[bisect.bisect(self._sums, random.random() * self._sums[-1])]  # noqa: S311

    def version(self, version: str) -> Target:
        """Return exactly that version. Raises NotFound."""
        target = self.targets.get(version)
        if target is None:
            served = ", ".join(self.targets) or "none"
            raise NotFound(
                f"version {version} of model {self.model.name} is not served; these are: {served}"
            )
        return target


class Routes:
    """All models by name. Readers see one immutable snapshot; the watching thread replaces it."""

    def __init__(self, cluster: Cluster, *, watch_seconds: float) -> None:
        self._watch = Watch(cluster, MODEL, _route, self._publish, seconds=watch_seconds)
        self._seen: float | None = None
        self.snapshot: Mapping[str, Route] = MappingProxyType({})
        self.changed: Callable[[], None] = lambda: None
        """Called in the watching thread after each new snapshot."""

    @property
    def age(self) -> float:
        """Seconds since the last update from the cluster; infinite before the first one."""
        return float("inf") if self._seen is None else time.monotonic() - self._seen

    def get(self, model: str) -> Route:
        """Return the route of a model. Raises NotFound, or Unavailable before the first update."""
        route = self.snapshot.get(model)
        if route is None:
            if self._seen is None:
                raise Unavailable("the models are not known yet: the cluster has not answered")
            raise NotFound(f"there is no model {model}")
        return route

    def pick(self, model: str, version: str | None = None) -> Target:
        """Return the version for one request. Raises NotFound, Unavailable."""
        route = self.get(model)
        return route.pick() if version is None else route.version(version)

    async def wait(self) -> None:
        """Wait for the first update from the cluster."""
        while self._seen is None:  # noqa: ASYNC110  (a thread sets it)
            await asyncio.sleep(0.05)

    def start(self) -> None:
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()

    def _publish(self, routes: dict[str, Route]) -> None:
        self.snapshot = MappingProxyType(routes)
        self._seen = time.monotonic()
        self.changed()


def _route(manifest: Manifest) -> Route | None:
    try:
        return Route(RoutedModel.model_validate(manifest))
    except ValidationError as error:
        log.warning(
            "model %s has an invalid manifest and is not served: %s",
            manifest.get("metadata", {}).get("name"),
            error,
        )
        return None
