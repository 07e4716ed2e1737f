"""``python -m slipway_controller``: run until told to stop."""

import logging
import signal
import sys
import threading

import httpx
from pydantic import ValidationError
from slipway_cluster import connect
from slipway_contract.errors import explain_settings

from slipway_controller.controller import Controller
from slipway_controller.registry import Registry
from slipway_controller.settings import ControllerSettings


def main() -> int:
    """Exit status 2 when a setting is missing or wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = ControllerSettings()
    except ValidationError as error:
        sys.stderr.write(explain_settings(error))
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    credentials = None
    if settings.tracking_username and settings.tracking_password:
        credentials = (settings.tracking_username, settings.tracking_password.get_secret_value())
    with (
        httpx.Client(base_url=settings.tracking_uri, auth=credentials, timeout=5) as mlflow,
        httpx.Client(timeout=10, headers=settings.predictor_headers) as predictors,
    ):
        Controller(connect(settings.cluster), Registry(mlflow), predictors).run(settings.interval, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
