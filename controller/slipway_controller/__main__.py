"""``python -m slipway_controller``: run the controller until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys
import threading
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from slipway_cluster import Cluster, connect
from slipway_contract.errors import explain_settings
from slipway_contract.log import log_to_stderr

from slipway_controller import loop
from slipway_controller.controller import Controller
from slipway_controller.health import Health
from slipway_controller.registry import Registry
from slipway_controller.settings import ControllerSettings


def main() -> int:
    """Run the controller; return 2 for an invalid setting, 1 when another controller took over."""
    log_to_stderr()
    for chatty in ("httpx", "kopf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        sys.stderr.write(explain_settings(error))
        return 2
    health = Health()
    with (
        httpx.Client(
            base_url=settings.tracking_uri, auth=settings.tracking_credentials, timeout=5
        ) as mlflow,
        httpx.Client(headers=settings.predictor_headers, timeout=10) as predictors,
        health.served(settings.host, settings.port),
    ):
        cluster = connect(settings.cluster)
        controller = Controller(cluster, Registry(mlflow), predictors)
        if settings.cluster.startswith("kubernetes:"):
            return _operate(settings, cluster, controller, health)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        loop.run(cluster, controller, health, settings.interval, stop)
        return 0


def _operate(
    settings: ControllerSettings, cluster: Cluster, controller: Controller, health: Health
) -> int:
    # kopf takes a second to load: import it only on Kubernetes.
    from slipway_controller.handlers import Operator

    operator = Operator(controller, cluster, health, settings.interval)
    return 0 if asyncio.run(operator.run(urlsplit(settings.cluster).netloc)) else 1


if __name__ == "__main__":
    sys.exit(main())
