"""A predictor: the real entry point as a process on a loopback port."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import free_port, installed, responds, running_process, wait_for_start
from tests.support.waiting import SECONDS

PROGRAM = installed("slipway-serve", ".venv-serving")


@dataclass(frozen=True)
class Predictor:
    """A process that serves one model, and a client of it."""

    name: str
    """The model's name at the predictor."""
    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    metrics: str

    def infer(self, body: Any) -> httpx.Response:
        return self.client.post(f"/v2/models/{self.name}/infer", json=body)

    @property
    def resident(self) -> int:
        """Memory in MiB (Linux: VmRSS of /proc/PID/status)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) // 1024


@contextmanager
def started(
    folder: Path, log: Path, settings: Mapping[str, str] | None = None, name: str = "heart-3"
) -> Iterator[Predictor]:
    """Start it on free ports, wait until the model is ready, and stop it at the end."""
    port, metrics = free_port(), free_port()
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MLSERVER_", "SLIPWAY_"))
        },
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_MODEL_NAME": name,
        **(settings or {}),
    }
    url = f"http://127.0.0.1:{port}"
    with (
        running_process(
            [PROGRAM, folder], log, environment=environment, folder=log.parent, stop=signal.SIGKILL
        ) as process,
        httpx.Client(base_url=url, timeout=SECONDS) as client,
    ):
        wait_for_start(process, log, responds(f"{url}/v2/models/{name}/ready"))
        yield Predictor(name, process, client, f"http://127.0.0.1:{metrics}/metrics")
