"""Prometheus metrics, with labels of few values: models and versions that are served, classes of outcomes."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""


class Metrics:
    """A registry of its own for each gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._predictions = Counter(
            "slipway_predictions",
            "Answered predictions",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "slipway_prediction_seconds",
            "Time from the request to its answer",
            ["model", "version"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter("slipway_refusals", "Requests refused by the gateway", ["status"], registry=self.registry)
        self.shipped = Counter("slipway_events_shipped", "Events sent to the database", registry=self.registry)
        self.rejected = Counter("slipway_events_rejected", "Events that the database refused", registry=self.registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def predicted(self, model: str, version: str, status: int, seconds: float) -> None:
        key = (model, version, status // 100)
        # labels() takes a lock and builds a tuple each time: the pair is kept.
        pair = self._children.get(key)
        if pair is None:
            counter = self._predictions.labels(model, version, f"{status // 100}xx")
            pair = self._children[key] = (counter, self._seconds.labels(model, version))
        pair[0].inc()
        pair[1].observe(seconds)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, what, registry=self.registry).set_function(value)
