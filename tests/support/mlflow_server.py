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
