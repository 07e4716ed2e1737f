"""Reconciliation loop of the local stack; on Kubernetes, kopf takes its place."""

import logging
import threading

from slipway_cluster import MODEL, Cluster

from slipway_controller.controller import Controller
from slipway_controller.health import Health

logger = logging.getLogger(__name__)


def run(
    cluster: Cluster, controller: Controller, health: Health, interval: float, stop: threading.Event
) -> None:
    """Reconcile all Models until ``stop`` is set; log the failure of one and continue."""
    while not stop.is_set():
        health.beat()
        for manifest in cluster.list(MODEL):
            name = manifest["metadata"]["name"]
            try:
                with health.timed(name):
                    health.show(name, controller.reconcile_model(name))
            except Exception:
                logger.exception("could not reconcile model %s", name)
        stop.wait(interval)
