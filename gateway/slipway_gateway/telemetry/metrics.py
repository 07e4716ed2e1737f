"""Prometheus metrics. Labels have few values: served models and versions, and status classes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds."""


EXEMPLAR_SECONDS = 1.0
"""Minimum time between two exemplars; an exemplar costs twice as much as an observation."""


@dataclass(slots=True)
class _Series:
    """The metrics of a model's version and a status class."""

    counter: Counter
    histogram: Histogram
    exemplar_due: float = 0.0


class Metrics:
    """The metrics of one gateway in a registry of its own."""

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
        self._requests = Histogram(
            "slipway_request_seconds",
            "Time from a request of the control API to the beginning of its answer",
            ["method", "route", "outcome"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._refused = Counter(
            "slipway_refusals",
            "Requests refused by the gateway",
            ["status"],
            registry=self.registry,
        )
        self._limited = Counter(
            "slipway_limit_refusals",
            "Requests refused because a limit was reached",
            ["limit"],
            registry=self.registry,
        )
        self.shipped = Counter(
            "slipway_events_shipped", "Events sent to the database", registry=self.registry
        )
        self.rejected = Counter(
            "slipway_events_rejected", "Events that the database refused", registry=self.registry
        )
        self._labelled = Counter(
            "slipway_labelled_rows",
            "Predicted rows with a label from feedback; corrections count again",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self._features = Gauge(
            "slipway_features_age_seconds",
            "Time since the end of the newest day in the feature set",
            ["features"],
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int], _Series] = {}

    def predicted(
        self, model: str, version: str, status: int, seconds: float, request_id: str
    ) -> None:
        """Count a prediction with its duration.

        Once a second the request id becomes the bucket's exemplar; it leads to the receipt.
        """
        key = (model, version, status // 100)
        series = self._series.get(key)
        if series is None:
            # Cached, because labels() takes a lock and builds a tuple each time.
            counter = self._predictions.labels(model, version, f"{status // 100}xx")
            series = self._series[key] = _Series(counter, self._seconds.labels(model, version))
        series.counter.inc()
        now = time.monotonic()
        if now < series.exemplar_due:
            series.histogram.observe(seconds)
        else:
            series.exemplar_due = now + EXEMPLAR_SECONDS
            series.histogram.observe(seconds, {"request_id": request_id})

    def refused(self, status: int, limit: str | None) -> None:
        """Count a request that the gateway rejected; ``limit`` is the name of a reached limit."""
        self._refused.labels(status).inc()
        if limit is not None:
            self._limited.labels(limit).inc()

    def labelled(self, model: str, version: str, rows: int, correct: int) -> None:
        """Count the labelled rows of a prediction."""
        self._labelled.labels(model, version, "right").inc(correct)
        self._labelled.labels(model, version, "wrong").inc(rows - correct)

    def features(self, ages: Mapping[str, Callable[[], float]]) -> None:
        """Set the feature sets; their ages in seconds are read at each scrape."""
        self._features.clear()
        for name, age in ages.items():
            self._features.labels(name).set_function(age)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response of the control API.

        ``route`` is the access table's path with names in braces, so that it has few values.
        """
        self._requests.labels(method, route, f"{status // 100}xx").observe(seconds)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Register a gauge that is read at each scrape."""
        Gauge(name, what, registry=self.registry).set_function(value)
