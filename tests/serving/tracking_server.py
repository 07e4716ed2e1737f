"""A real MLflow tracking server; artifacts are registered over its REST API, as training does."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from slipway_contract.registry import ArtifactManifest, StorageUri

_READY = 2  # LoggedModelStatus of MLflow's service.proto
MLFLOW = Path(__file__).parents[2] / ".venv/bin/mlflow"


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TrackingServer:
    """A tracking server's address, and the folder of its artifact proxy."""

    def __init__(self, url: str, store: Path) -> None:
        self.url = url
        self.store = store
        self._client = httpx.Client(base_url=f"{url}/api/2.0", timeout=20)

    def close(self) -> None:
        self._client.close()

    def register(self, name: str, folder: Path) -> tuple[str, Path]:
        """Upload the folder as a logged model and register it.

        Returns the version and the path of its files.
        """
        made = self._post("mlflow/logged-models", {"experiment_id": "0", "name": name})["model"][
            "info"
        ]
        root = self._upload(made["artifact_uri"], folder)
        self._post(
            f"mlflow/logged-models/{made['model_id']}",
            {"model_id": made["model_id"], "status": _READY},
            "PATCH",
        )
        return self._version(
            name, f"models:/{made['model_id']}", model_id=made["model_id"]
        ), self.store / root

    def adopt(self, name: str, logged: Path, folder: Path) -> str:
        """Register a logged model, and the folder as its converted artifact; return the version."""
        version, _ = self.register(name, logged)
        served, _ = self.register(f"{name}-served", folder)
        source = self._client.get(
            "mlflow/model-versions/get", params={"name": f"{name}-served", "version": served}
        ).json()
        tag = {
            "name": name,
            "version": version,
            "key": "slipway.artifact",
            "value": source["model_version"]["source"],
        }
        self._post("mlflow/model-versions/set-tag", tag)
        return version

    def register_from_run(self, name: str, folder: Path) -> str:
        """Upload the folder as artifacts of a run, register it, and return the version."""
        run = self._post("mlflow/runs/create", {"experiment_id": "0"})["run"]["info"]
        self._upload(f"{run['artifact_uri']}/model", folder)
        return self._version(name, f"{run['artifact_uri']}/model", run_id=run["run_id"])

    def _upload(self, uri: str, folder: Path) -> str:
        root = uri.removeprefix("mlflow-artifacts:/")
        for path in folder.rglob("*"):
            if path.is_file():
                target = f"mlflow-artifacts/artifacts/{root}/{path.relative_to(folder).as_posix()}"
                self._client.put(target, content=path.read_bytes()).raise_for_status()
        return root

    def _version(self, name: str, source: str, **owner: str) -> str:
        self._client.post(
            "mlflow/registered-models/create", json={"name": name}
        )  # 400 when it exists
        made = self._post("mlflow/model-versions/create", {"name": name, "source": source, **owner})
        return str(made["model_version"]["version"])

    def _post(self, path: str, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
        response = self._client.request(method, path, json=body)
        assert response.is_success, response.text
        content: dict[str, Any] = response.json()
        return content


def uri_of(name: str, version: str, manifest: ArtifactManifest, extra: str = "") -> str:
    """Return the storage URI of a version, as the controller writes it."""
    return (
        str(StorageUri(name=name, version=version, sha256=manifest.digest.removeprefix("sha256:")))
        + extra
    )


@contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    """Start ``mlflow server`` on a free loopback port, with its state in the folder."""
    port = free_port()
    store = folder / "store"
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination": str(store),
    }
    quiet = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    command = [str(MLFLOW), "server", *(word for option in options.items() for word in option)]
    with (folder / "log").open("wb") as log:
        # A new session, because the server's workers must end with it.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **quiet},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_up(f"http://127.0.0.1:{port}/health", process, folder / "log", seconds=90)
            server = TrackingServer(f"http://127.0.0.1:{port}", store)
            yield server
            server.close()
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path, seconds: float) -> None:
    """Wait for status 200; the failure has the last response."""
    deadline = time.monotonic() + seconds
    seen = "nothing yet"
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}:\n{log.read_text()}"
        try:
            response = httpx.get(url, timeout=2)
            if response.status_code == 200:
                return
            seen = f"status {response.status_code}"
        except httpx.TransportError as error:
            seen = repr(error)
        time.sleep(0.05)
    raise AssertionError(f"{url} after {seconds} s: {seen}\n{log.read_text()}")
