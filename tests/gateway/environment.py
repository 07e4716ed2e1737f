"""The environment of a gateway: issuer, predictor, cluster and database.

The gateway runs in-process or as a separate process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import psycopg
from slipway_cluster.interface import ENDPOINT_SLICE, MODEL
from slipway_contract.model import API_VERSION, RoutedModel
from slipway_gateway.app import Gateway
from slipway_gateway.inference.endpoints import SERVICE_LABEL
from slipway_gateway.inference.routing import Route
from slipway_gateway.settings import Settings
from slipway_local.standin.local_cluster import LocalCluster

from tests.gateway.issuer import AUDIENCE, Issuer
from tests.gateway.predictor import DIGEST, ROW, SIGNATURE, Predictor
from tests.support.asgi_server import AsgiServer
from tests.support.processes import free_port, responds, wait_for_start
from tests.support.waiting import SECONDS, until, wait_for


class Environment:
    """A folder with the state of the cluster and the spool."""

    def __init__(
        self, folder: Path, database_url: str, issuer: Issuer, predictor: Predictor
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.issuer = issuer
        self.predictor = predictor
        self.cluster = LocalCluster(folder / "cluster")
        self.spool = folder / "spool"
        self._gateways: list[Gateway] = []

    def model(
        self,
        name: str,
        *targets: tuple[str, int],
        url: str | None = None,
        message: str = "serving",
        verified: bool = True,
        **spec: Any,
    ) -> None:
        """Declare a model whose versions have these shares of the traffic.

        ``spec`` has additional fields. The model and its status are two writes, as the controller
        makes them. Return when each running gateway of this environment has read the second one.
        """
        now = datetime.now(UTC).isoformat()
        self.cluster.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "Model",
                "metadata": {"name": name},
                "spec": {"registeredModel": name, **spec},
            }
        )
        traffic = [
            {
                "version": version,
                "role": "live" if percent == max(share for _, share in targets) else "canary",
                "percent": percent,
                "digest": f"{DIGEST[:-4]}{int(version):04x}",
                "service": f"{name}-{version}",
                "url": url or self.predictor.url,
                "verified": verified,
                "since": now,
            }
            for version, percent in targets
        ]
        ready = {
            "type": "Ready",
            "status": "True" if targets else "False",
            "reason": "x",
            "message": message,
        }
        status = {"conditions": [{**ready, "lastTransitionTime": now}], "traffic": traffic}
        declared = RoutedModel.model_validate(self.cluster.update_status(MODEL, name, status))
        self._wait_for_routes(
            lambda routes: name in routes and routes[name].model.status == declared.status
        )

    def delete_model(self, name: str) -> None:
        """Delete a model. Return when no running gateway of this environment has its route."""
        self.cluster.delete(MODEL, name)
        self._wait_for_routes(lambda routes: name not in routes)

    def _wait_for_routes(self, hold: Callable[[Mapping[str, Route]], bool]) -> None:
        until(
            lambda: [gateway.data.routes.snapshot for gateway in self._gateways],
            lambda seen: all(hold(routes) for routes in seen),
        )

    def pods(self, service: str, *ready: str, leaving: Sequence[str] = ()) -> str:
        """Declare the URLs of a Service's pods, and return the URL of the Service.

        All pods have one address, so each port needs an EndpointSlice. The Service does not
        exist.
        """
        slices = {
            f"{service}-{urlsplit(each).port}": {
                "serving": True,
                "ready": each in ready,
                "terminating": each in leaving,
            }
            for each in (*ready, *leaving)
        }
        known = {
            each["metadata"]["name"]
            for each in self.cluster.list(ENDPOINT_SLICE, {SERVICE_LABEL: service})
        }
        for name in known - slices.keys():
            self.cluster.delete(ENDPOINT_SLICE, name)
        for name, conditions in slices.items():
            self.cluster.apply(
                {
                    "apiVersion": ENDPOINT_SLICE.api_version,
                    "kind": ENDPOINT_SLICE.name,
                    "metadata": {"name": name, "labels": {SERVICE_LABEL: service}},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["127.0.0.1"], "conditions": conditions}],
                    "ports": [
                        {"name": "http", "port": int(name.rpartition("-")[2]), "protocol": "TCP"}
                    ],
                }
            )
        return f"http://{service}.default.svc.cluster.local"

    def settings(self, **changed: Any) -> Settings:
        given = {
            "cluster": f"local://{self.folder / 'cluster'}",
            "database_url": self.database_url,
            "oidc_issuer": self.issuer.name,
            "oidc_discovery_url": self.issuer.url if self.issuer.public else None,
            "oidc_audience": AUDIENCE,
            "oidc_refetch_seconds": 0.2,
            "gateway_port": 0,
            "gateway_metrics_port": 0,
            "spool": self.spool,
            "ship_seconds": 0.1,
            "grace_seconds": 20,
            "upstream_timeout_seconds": 20,
            "predictions_per_minute": 1_000_000,
            "training_per_minute": 1_000_000,
            "requests_per_minute": 1_000_000,
        }
        return Settings.model_validate({**given, **changed})

    @contextmanager
    def gateway(self, *, ready: bool = True, **changed: Any) -> Iterator["Client"]:
        """Run the application behind a socket in this process, and wait until it is ready."""
        settings = self.settings(**changed)
        gateway = Gateway(settings, self.cluster)
        with (
            AsgiServer(gateway.application, lifespan="on", http=gateway.connection) as server,
            Client(server.url, self) as client,
        ):
            client.gateway = gateway
            if not ready:
                yield client
                return
            wait_for("readiness", lambda: client.get("/readyz", who=None).status_code == 200)
            self._gateways.append(gateway)
            try:
                yield client
            finally:
                self._gateways.remove(gateway)

    def count(self, where: str = "true") -> int:
        with psycopg.connect(self.database_url) as connection:
            query = f"SELECT count(*) FROM prediction_events WHERE {where}"  # noqa: S608
            row = connection.execute(query).fetchone()
        assert row
        return int(row[0])


class Client:
    """An HTTP client of a gateway."""

    gateway: Gateway

    def __init__(self, url: str, environment: Environment) -> None:
        self.url = url
        self.environment = environment
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def _headers(self, who: str | None) -> dict[str, str]:
        """Return the Authorization header; ``who`` is a user name, a token, or None."""
        if who is None:
            return {}
        if who not in self._tokens and "." not in who:
            self._tokens[who] = self.environment.issuer.token(
                who, "admin" if who == "root" else "user"
            )
        token = self._tokens.get(who, who)
        return {"authorization": f"Bearer {token}"}

    def get(self, path: str, who: str | None = "ada") -> httpx.Response:
        return self.http.get(path, headers=self._headers(who))

    def post(
        self, path: str, content: Any, who: str | None = "ada", **headers: str
    ) -> httpx.Response:
        """Send a Python value as JSON, or bytes unchanged."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(content, bytes):
            named = {"content-type": "application/json", **named}
            return self.http.post(path, content=content, headers={**self._headers(who), **named})
        return self.http.post(path, json=content, headers={**self._headers(who), **named})

    def infer(
        self, model: str, who: str | None = "ada", *, request_id: str | None = None, **changed: Any
    ) -> httpx.Response:
        return self.post(f"/v2/models/{model}/infer", v2_request(request_id, **changed), who)


def v2_request(request_id: str | None = None, **changed: Any) -> dict[str, Any]:
    """Return a V2 request of one row; ``changed`` values may be invalid."""
    request = SIGNATURE.request([ROW], request_id).model_dump(mode="json", exclude_none=True)
    for tensor in request["inputs"]:
        if tensor["name"] in changed:
            tensor["data"] = [changed[tensor["name"]]]
    return request


def variables(settings: Settings, database_url: str) -> dict[str, str]:
    """Return the environment variables of a process with these settings."""
    values = settings.model_dump(exclude={"database_url"}, exclude_none=True, mode="json") | {
        "database_url": database_url
    }
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
    return {f"SLIPWAY_{name.upper()}": text for name, text in texts.items()}


class Process:
    """A process of ``python -m slipway_gateway serve`` and its log."""

    def __init__(self, environment: Environment, **changed: Any) -> None:
        port, self.metrics_port = free_port(), free_port()
        settings = environment.settings(
            gateway_port=port, gateway_metrics_port=self.metrics_port, **changed
        )
        given = variables(settings, environment.database_url)
        self.log = environment.folder / f"gateway-{port}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "slipway_gateway", "serve"],
                env={**os.environ, **given},
                stderr=log,
            )
        self.client = Client(f"http://127.0.0.1:{port}", environment)

    def wait_ready(self) -> None:
        wait_for_start(self.process, self.log, responds(f"{self.client.url}/readyz"))

    def peak_memory(self) -> int:
        """Return the peak of the resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.client.http.close()
        self.process.terminate()
        return self.process.wait(SECONDS)


@contextmanager
def running(environment: Environment, **changed: Any) -> Iterator[Process]:
    """Yield a process that is ready, and stop it.

    The exit status must be 0. After an error the process is killed.
    """
    process = Process(environment, **changed)
    try:
        process.wait_ready()
        yield process
        assert process.stop() == 0
    finally:
        process.kill()
