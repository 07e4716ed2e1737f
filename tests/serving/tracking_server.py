"""A real MLflow tracking server; artifacts are registered over its REST API, as training does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from slipway_contract.registry import ArtifactManifest, StorageUri

from tests.support.mlflow_server import mlflow_server
from tests.support.waiting import SECONDS

_READY = 2  # LoggedModelStatus of MLflow's service.proto


class TrackingServer:
    """A tracking server's address, and the folder of its artifact proxy."""

    def __init__(self, url: str, store: Path) -> None:
        self.url = url
        self.store = store
        self._client = httpx.Client(base_url=f"{url}/api/2.0", timeout=SECONDS)

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
    """Start an MLflow server with its state in the folder."""
    with mlflow_server(folder) as url:
        server = TrackingServer(url, folder / "artifacts")
        yield server
        server.close()
