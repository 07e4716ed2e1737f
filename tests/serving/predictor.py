"""A predictor: the real entry point as a process on a loopback port."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import free_port, responds, running_process, wait_for_start

PROGRAM = Path(sys.executable).with_name("slipway-serve")


@dataclass(frozen=True)
class Predictor:
    """A process that serves the model ``heart-3``, and a client of it."""

    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    metrics: str

    def infer(self, body: Any) -> httpx.Response:
        return self.client.post("/v2/models/heart-3/infer", json=body)

    @property
    def resident(self) -> int:
        """Memory in MiB (Linux: VmRSS of /proc/PID/status)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) // 1024


@contextmanager
def started(
    folder: Path, log: Path, settings: Mapping[str, str] | None = None, program: Path = PROGRAM
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
        "MLSERVER_MODEL_NAME": "heart-3",
        **(settings or {}),
    }
    url = f"http://127.0.0.1:{port}"
    with (
        running_process(
            [program, folder], log, environment=environment, folder=log.parent, stop=signal.SIGKILL
        ) as process,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        wait_for_start(process, log, responds(f"{url}/v2/models/heart-3/ready"))
        yield Predictor(process, client, f"http://127.0.0.1:{metrics}/metrics")
