"""Deployments of the local stack: its programs with their environments, as Kubernetes objects."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipway_cluster import Manifest

from slipway_local.identity import AUDIENCE, SCIM_CLIENT, Identity
from slipway_local.postgres import Postgres
from slipway_local.settings import LocalSettings
from slipway_local.standin.kubelet import Image
from slipway_local.state import State

Environment = Mapping[str, str]
DATABASE, BACKENDS = 2, 1
"""Priorities: PostgreSQL starts first and stops last, then MLflow and the identity provider."""


class Deployments:
    """The programs of one state folder."""

    def __init__(self, settings: LocalSettings, state: State) -> None:
        self._settings = settings
        self._state = state
        self.postgres = Postgres(state)
        # Environments in it have passwords.
        self.cluster_folder = state.folder("cluster", mode=0o700)
        self.cluster_url = f"local://{self.cluster_folder}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self._state.port('gateway')}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self._state.port('mlflow')}"

    @property
    def identity(self) -> Identity:
        return Identity(
            self._state,
            self._state.port("identity"),
            self.postgres.sqlalchemy_url("identity"),
            redirect_uris=[f"{self.gateway_url}/", f"{self.gateway_url}/v1/docs/login"],
            smtp=self._settings.smtp,
            registration=self._settings.registration,
        )

    def manifests(self) -> Iterator[Manifest]:
        """Yield all Deployments."""
        yield self._postgres()
        yield self._mlflow()
        yield self._identity()
        gateway = ["python", "-m", "slipway_gateway"]
        migrate = container("migrate", [*gateway, "migrate"], self._gateway_env())
        yield deployment(
            container("gateway", [*gateway, "serve"], self._gateway_env())
            | self._served("gateway", "/livez", "/readyz"),
            init=migrate,
        )
        yield deployment(container("worker", [*gateway, "work"], self._worker_env()), init=migrate)
        controller = ["python", "-m", "slipway_controller"]
        yield deployment(container("controller", controller, self._controller_env()))

    def images(self) -> dict[str, Image]:
        """Return the images of the Deployments, Jobs and predictors."""
        apps = self._settings.apps
        return {
            "slipway-apps": Image(path=apps, workdir=Path.cwd()),
            "slipway-jobs": Image(path=apps, env=self._jobs_env(), workdir=Path.cwd()),
            "slipway-serving": Image(
                path=self._settings.serving.absolute(), env=self._serving_env()
            ),
        }

    def _served(self, name: str, live: str, ready: str) -> Manifest:
        """Return the port of a program, and its probes."""
        port = self._state.port(name)
        return {
            "ports": [{"containerPort": port, "hostPort": port}],
            "startupProbe": {
                "httpGet": {"path": ready, "port": port},
                "periodSeconds": 1,
                "timeoutSeconds": 5,
                "failureThreshold": 300,
            },
            "livenessProbe": {
                "httpGet": {"path": live, "port": port},
                "periodSeconds": 20,
                "timeoutSeconds": 10,
                "failureThreshold": 6,
            },
        }

    def _postgres(self) -> Manifest:
        ready = "/run/slipway/ready"
        command = ["python", "-m", "slipway_local.postgres", str(self._state.root), ready]
        server = container(
            "postgresql", command, {"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
        )
        server |= {
            "volumeMounts": [{"name": "run", "mountPath": "/run/slipway"}],
            "startupProbe": {
                "exec": {"command": ["test", "-e", ready]},
                "periodSeconds": 1,
                "failureThreshold": 120,
            },
        }
        return deployment(server, priority=DATABASE, volumes=[{"name": "run", "emptyDir": {}}])

    def _mlflow(self) -> Manifest:
        port = self._state.port("mlflow")
        env = {
            "MLFLOW_BACKEND_STORE_URI": self.postgres.sqlalchemy_url("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"file://{self._state.folder('artifacts')}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        server = container("mlflow", command, env)
        return deployment(server | self._served("mlflow", "/health", "/health"), priority=BACKENDS)

    def _identity(self) -> Manifest:
        env = self.identity.environment
        bind = ["--bind", f"127.0.0.1:{self._state.port('identity')}"]
        # No workers: this process serves.
        command = [
            "hypercorn",
            *bind,
            "--workers",
            "0",
            "slipway_identity.application:create_app()",
        ]
        path = "/.well-known/openid-configuration"
        return deployment(
            container("identity", command, env) | self._served("identity", path, path),
            init=container("bootstrap", ["python", "-m", "slipway_identity"], env),
            priority=BACKENDS,
        )

    def _gateway_env(self) -> Environment:
        return {
            "SLIPWAY_CLUSTER": self.cluster_url,
            "SLIPWAY_DATABASE_URL": self.postgres.url("slipway"),
            "SLIPWAY_OIDC_ISSUER": self.identity.issuer,
            "SLIPWAY_OIDC_AUDIENCE": AUDIENCE,
            "SLIPWAY_OIDC_REQUIRE_AT_JWT": "true",
            "SLIPWAY_GATEWAY_PORT": str(self._state.port("gateway")),
            "SLIPWAY_GATEWAY_METRICS_PORT": str(self._state.port("metrics")),
            "SLIPWAY_SPOOL": str(self._state.folder("spool")),
            # No limits on the user's own machine.
            "SLIPWAY_PREDICTIONS_PER_MINUTE": "1000000",
            "SLIPWAY_TRAINING_PER_MINUTE": "1000",
            "SLIPWAY_PREDICTOR_TOKEN": self._state.secret("predictor"),
            "SLIPWAY_SCIM_URL": f"{self.identity.issuer}/scim/v2",
            "SLIPWAY_SCIM_CLIENT_ID": SCIM_CLIENT,
            "SLIPWAY_SCIM_CLIENT_SECRET": self.identity.scim_secret,
        }

    def _worker_env(self) -> Environment:
        return {
            **self._gateway_env(),
            "SLIPWAY_GATEWAY_METRICS_PORT": str(self._state.port("worker-metrics")),
            "SLIPWAY_SPOOL": str(self._state.folder("worker-spool")),
        }

    def _controller_env(self) -> Environment:
        return {
            "SLIPWAY_CLUSTER": self.cluster_url,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "SLIPWAY_PREDICTOR_TOKEN": self._state.secret("predictor"),
        }

    def _serving_env(self) -> Environment:
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "SLIPWAY_SERVING_TOKEN": self._state.secret("predictor"),
            "SLIPWAY_STORAGE_TRUSTED_KEYS": self._state.trusted_key(),
        }

    def _jobs_env(self) -> Environment:
        env = {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "SLIPWAY_DATABASE_URL": self.postgres.url("slipway"),
            "SLIPWAY_PREDICTOR_TOKEN": self._state.secret("predictor"),
            "SLIPWAY_SIGNING_KEY": str(self._state.signing_key()),
            "SLIPWAY_GIT_REVISION": git_revision(),
            "SLIPWAY_FETCH": str(self._settings.fetch).lower(),
        }
        data = self._settings.data
        return env | ({"SLIPWAY_DATA": str(data.resolve())} if data else {})


def container(name: str, command: list[str], env: Environment) -> Manifest:
    """Return a container of the applications' environment."""
    variables = [{"name": key, "value": value} for key, value in env.items()]
    return {"name": name, "image": "slipway-apps", "command": command, "env": variables}


def deployment(
    main: Manifest,
    *,
    init: Manifest | None = None,
    priority: int = 0,
    volumes: list[Manifest] | None = None,
) -> Manifest:
    """Return a Deployment with the name of its container."""
    labels = {"app.kubernetes.io/component": main["name"]}
    spec = {
        "initContainers": [init] if init else [],
        "containers": [main],
        "volumes": volumes or [],
        "priority": priority,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": main["name"], "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def git_revision() -> str:
    """Return the commit of the checkout, ``unknown`` outside one."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
