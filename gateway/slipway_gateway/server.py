"""Runs the gateway: uvicorn on the main port, metrics on theirs."""

import gc
import logging
import signal

import uvicorn
from prometheus_client import start_http_server
from slipway_cluster.interface import Cluster

from slipway_gateway.app import Gateway
from slipway_gateway.settings import Settings

log = logging.getLogger(__name__)

GRACE_SECONDS = 20
"""Time that requests under way have to end; below Kubernetes' default of 30 s."""


def serve(settings: Settings, cluster: Cluster) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way and ship what is in the spool."""
    gateway = Gateway(settings, cluster)
    server, _ = start_http_server(settings.gateway_metrics_port, settings.gateway_host, gateway.metrics.registry)
    config = uvicorn.Config(
        gateway.application,
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        proxy_headers=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # Longer than load balancers keep their idle connections, so that it is never us who close first.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    # What is loaded now stays for ever: the collector need not look at it again in the middle of a request.
    gc.collect()
    gc.freeze()
    log.info("listening on %s:%d, metrics on %d", settings.gateway_host, settings.gateway_port, server.server_port)
    # uvicorn ends gracefully on these and then raises them once more, for whoever was there before it: an end with status 0.
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, _leave)
    try:
        uvicorn.Server(config).run()
    finally:
        server.shutdown()


def _leave(*_: object) -> None:
    raise SystemExit(0)
