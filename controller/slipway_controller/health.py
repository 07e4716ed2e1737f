"""``/livez`` and ``/metrics``: liveness of the controller and conditions of the Models."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from slipway_contract.model import ModelStatus

STILL_SECONDS = 60.0
"""Time without a heartbeat after which the process counts as hung.

One reconciliation waits for the cluster for at most half of it.
"""


class Health:
    """Health state that the loop updates and that Kubernetes and Prometheus read."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._beaten = time.monotonic()
        self._condition = Gauge(
            "slipway_model_condition",
            "1 when the condition of the Model is True",
            ["model", "type"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "slipway_controller_reconcile_seconds",
            "duration of one reconciliation of a Model",
            registry=self.registry,
        )
        self._failures = Counter(
            "slipway_controller_failures_total",
            "reconciliations of a Model that ended in an error",
            ["model"],
            registry=self.registry,
        )
        self.leading = Gauge(
            "slipway_controller_leading",
            "1 while this process holds the lease",
            registry=self.registry,
        )

    def beat(self) -> None:
        """Record a heartbeat of the loop."""
        self._beaten = time.monotonic()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._beaten < STILL_SECONDS

    @contextmanager
    def timed(self, model: str) -> Iterator[None]:
        """Measure the duration and the errors of one reconciliation of the Model."""
        with self._durations.time(), self._failures.labels(model).count_exceptions():
            yield

    def show(self, model: str, status: ModelStatus | None) -> None:
        """Export the conditions of the Model; remove them when ``status`` is None."""
        if status is None:
            self._condition.remove_by_labels({"model": model})
            return
        for condition in status.conditions:
            self._condition.labels(model, condition.type).set(condition.status == "True")

    @contextmanager
    def served(self, host: str, port: int | None) -> Iterator[int | None]:
        """Serve both pages in the block and yield the port; serve nothing when ``port`` is None."""
        if port is None:
            yield None
            return
        server = ThreadingHTTPServer((host, port), self._handler())
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="health")
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        health = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._send(200, CONTENT_TYPE_LATEST, generate_latest(health.registry))
                elif self.path == "/livez":
                    if health.alive:
                        self._send(200, "text/plain", b"alive")
                    else:
                        self._send(503, "text/plain", b"the loop hangs")
                else:
                    self._send(404, "text/plain", b"/livez, /metrics")

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: probes come every few seconds."""

        return Handler
