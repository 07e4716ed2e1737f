"""``/livez`` and ``/metrics``: whether the controller turns, and how the Models stand."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from slipway_contract.model import ModelStatus

STILL_SECONDS = 60.0
"""Without a beat for this long the process hangs: one look waits for a cluster at most half
of it.
"""


class Health:
    """Fed by the loop, read by Kubernetes and Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._beaten = time.monotonic()
        self._condition = Gauge(
            "slipway_model_condition",
            "1 when the condition of the Model is True",
            ["model", "type"],
            registry=self.registry,
        )
        self._looks = Histogram(
            "slipway_controller_look_seconds",
            "time that one look at a Model took",
            registry=self.registry,
        )
        self._failures = Counter(
            "slipway_controller_failures_total",
            "looks at a Model that ended in an error",
            ["model"],
            registry=self.registry,
        )
        self.leading = Gauge(
            "slipway_controller_leading",
            "1 while this process holds the lease",
            registry=self.registry,
        )

    def beat(self) -> None:
        """The loop has come round."""
        self._beaten = time.monotonic()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._beaten < STILL_SECONDS

    @contextmanager
    def timed(self, model: str) -> Iterator[None]:
        """Around one look at the Model."""
        with self._looks.time(), self._failures.labels(model).count_exceptions():
            yield

    def show(self, model: str, status: ModelStatus | None) -> None:
        """How the Model stands; None when it is gone."""
        if status is None:
            self._condition.remove_by_labels({"model": model})
            return
        for condition in status.conditions:
            self._condition.labels(model, condition.type).set(condition.status == "True")

    @contextmanager
    def served(self, host: str, port: int | None) -> Iterator[int | None]:
        """The two pages, while inside the block; gives the port. Nothing is served when ``port`` is
        None.
        """
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
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(health.registry))
                elif self.path == "/livez":
                    self._answer(
                        200 if health.alive else 503,
                        "text/plain",
                        b"alive" if health.alive else b"the loop hangs",
                    )
                else:
                    self._answer(404, "text/plain", b"/livez, /metrics")

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes every few seconds are not worth a line."""

        return Handler
