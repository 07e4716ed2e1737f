"""The gateway server: uvicorn on the main port and the metrics on a separate port."""

import gc
import logging
import resource
import signal
import time
from types import FrameType

import uvicorn
from prometheus_client import start_http_server
from slipway_cluster.interface import Cluster

from slipway_gateway.app import Gateway
from slipway_gateway.settings import Settings

log = logging.getLogger(__name__)

GRACE_SECONDS = 20
"""Time for running requests to end, after the drain and before the last shipment of events."""


class DrainingServer(uvicorn.Server):
    """A server that drains on the first SIGTERM and stops immediately on the second.

    During the drain readiness is false and new connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_seconds = gateway.settings.drain_seconds
        self._stop_at = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway.drain.closing:
            super().handle_exit(sig, frame)
            return
        log.info("shutting down: new connections are accepted for %g s", self._drain_seconds)
        now = time.monotonic()
        self._gateway.drain.closing = True
        self._gateway.ends_at = now + self._gateway.settings.grace_seconds
        self._stop_at = now + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        return time.monotonic() >= self._stop_at or await super().on_tick(counter)


OTHER_FILES = 1024
"""Open files other than client connections: connections to predictors and databases, the spool."""


def allow_files(count: int) -> None:
    """Raise the soft limit of open files to ``count``, or to the hard limit if that is lower.

    The usual soft limit of 1,024 is lower than the limit of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count:
        log.warning(
            "the limit of open files is %d; raise it, or set SLIPWAY_CONNECTION_LIMIT to %d",
            wanted,
            wanted - OTHER_FILES,
        )


def serve(settings: Settings, cluster: Cluster) -> None:
    """Serve until SIGTERM or SIGINT, then drain, finish running requests and ship the spool."""
    allow_files(settings.connection_limit + OTHER_FILES)
    gateway = Gateway(settings, cluster)
    server, _ = start_http_server(
        settings.gateway_metrics_port, settings.gateway_host, gateway.metrics.registry
    )
    config = uvicorn.Config(
        gateway.application,
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http=gateway.connection,  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # Loaded modules are never freed; frozen objects do not delay a collection during a request.
    gc.collect()
    gc.freeze()
    # Requests create almost no cycles; the default threshold costs 4 % of a request.
    gc.set_threshold(20_000, 20, 20)
    log.info(
        "listening on %s:%d, metrics on %d",
        settings.gateway_host,
        settings.gateway_port,
        server.server_port,
    )
    # uvicorn raises the signal again after its shutdown; these handlers then exit with status 0.
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _leave)
    try:
        DrainingServer(config, gateway).run()
    finally:
        server.shutdown()
        server.server_close()


def _leave(*_: object) -> None:
    raise SystemExit(0)
