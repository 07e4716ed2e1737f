"""``slipway-serve FOLDER``: load the artifact in a folder, then serve it until SIGTERM.

MLServer's own ``mlserver start`` opens its ports before it loads the model, exits 0 when that
fails, runs code that lies beside the model, and offers gRPC and an unauthenticated repository API.
This entry point assembles the same registry, data plane and HTTP application without gRPC, which
has no callers here and no request limits.
"""

import asyncio
import json
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop
from mlserver import ModelSettings
from mlserver.registry import MultiModelRegistry
from prometheus_client import start_http_server
from pydantic import ValidationError
from slipway_contract.errors import explain_settings
from slipway_contract.log import log_to_stderr

from slipway_serving.application import create_application, mlserver_settings
from slipway_serving.artifact import MODEL_SETTINGS_FILE
from slipway_serving.errors import Refused, first_finding
from slipway_serving.middleware import RequestMiddleware
from slipway_serving.model import SlipwayModel
from slipway_serving.settings import ServingSettings

NOT_SERVED = 3
"""Exit status when the artifact cannot be served."""


class DrainingServer(uvicorn.Server):
    """Sets readiness to false on the first SIGTERM and stops accepting requests some seconds later.

    A second SIGTERM stops it immediately.
    """

    def __init__(
        self, config: uvicorn.Config, middleware: RequestMiddleware, drain_seconds: float
    ) -> None:
        super().__init__(config)
        self._middleware = middleware
        self._drain_seconds = drain_seconds
        self._stop_at = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._middleware.closing:
            super().handle_exit(sig, frame)
            return
        self._middleware.closing = True
        self._stop_at = time.monotonic() + self._drain_seconds

    async def on_tick(self, counter: int) -> bool:
        return time.monotonic() >= self._stop_at or await super().on_tick(counter)


async def serve(folder: Path, settings: ServingSettings) -> None:
    """Load the model, then listen: an open port means a loaded model. Raises Refused."""
    server_settings = mlserver_settings()
    registry = MultiModelRegistry(model_initialiser=partial(SlipwayModel, threads=settings.threads))
    await registry.load(model_settings(folder))
    token = settings.token.get_secret_value() if settings.token else None
    application = create_application(server_settings, registry, settings.value_limit)
    middleware = RequestMiddleware(
        application, settings.body_limit, token, body_budget=settings.body_budget
    )
    if server_settings.metrics_endpoint:
        start_http_server(server_settings.metrics_port, server_settings.host)
    config = uvicorn.Config(
        middleware,
        host=server_settings.host,
        port=server_settings.http_port,
        root_path=server_settings.root_path,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Longer than callers keep a connection unused (90 s is usual): a server that closes first
        # loses their next request.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=settings.finish_seconds,
    )
    await DrainingServer(config, middleware, settings.drain_seconds).serve()


def model_settings(folder: Path) -> ModelSettings:
    """Return the settings that the storage initializer wrote.

    The model's name is KServe's MLSERVER_MODEL_NAME, otherwise the folder's name. Raises Refused
    when the file is missing: it is written last, so the rest of the folder is not verified.
    """
    path = folder / MODEL_SETTINGS_FILE
    try:
        content = json.loads(path.read_bytes())
        settings = ModelSettings.model_validate(content)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise Refused(f"{path}: {first_finding(error)}") from error
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from error
    if settings.parameters is None or "format" not in (settings.parameters.extra or {}):
        raise Refused(f"{path} was not written by the storage initializer")
    settings.name = settings.name or folder.resolve().name
    settings.parameters.uri = str(folder)
    return settings


def main() -> int:
    """Run ``slipway-serve`` and return its exit status.

    0 after a graceful shutdown, 2 for invalid settings or arguments, 3 when the artifact cannot be
    served.
    """
    log_to_stderr()
    if len(sys.argv) != 2:
        sys.stderr.write("usage: slipway-serve FOLDER\n")
        return 2
    try:
        settings = ServingSettings()
    except ValidationError as error:
        sys.stderr.write(explain_settings(error, "SLIPWAY_SERVING_"))
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(Path(sys.argv[1]), settings))
    except Refused as error:
        sys.stderr.write(f"{error}\n")
        with suppress(OSError):
            settings.termination_log.write_text(f"{error}\n")
        return NOT_SERVED
    return 0


if __name__ == "__main__":
    sys.exit(main())
