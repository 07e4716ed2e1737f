"""A real MLflow tracking server with its artifact proxy."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import free_port, installed, responds, running_process, wait_for_start

MLFLOW = str(installed("mlflow", ".venv"))
ENVIRONMENT = os.environ | {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
"""Variables of a server without its job runner and without telemetry."""


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Start a server with its database and ``artifacts`` in the folder; yield its URL."""
    port, log = free_port(), folder / "server.log"
    url = f"http://127.0.0.1:{port}"
    command = [
        *(MLFLOW, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with running_process(command, log, environment=ENVIRONMENT, folder=folder) as process:
        wait_for_start(process, log, responds(f"{url}/health"))
        yield url


@contextmanager
def user_of(url: str) -> Iterator[None]:
    """Set MLflow to the server inside the block, as a user's program does.

    The address is a global of MLflow; afterwards it is as before, also if it was not set.
    """
    import mlflow  # not in the environment of serving/

    is_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if is_set else None
    mlflow.set_tracking_uri(url)
    yield
    mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None unsets it
