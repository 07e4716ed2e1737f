"""Objects of the local stack: the rendered chart, with the addresses and Secrets of this machine.

``make local-objects`` renders the chart with ``objects/values.yaml`` into ``objects/chart.json``.
What a machine has in another way than a cluster is below: addresses, ports, folders, Secrets, and
PostgreSQL, which comes from a wheel.
"""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

from slipway_cluster import Manifest

from slipway_local import packages
from slipway_local.identity import Identity
from slipway_local.postgres import DATABASES, Postgres
from slipway_local.settings import LocalSettings
from slipway_local.standin.kubelet import Image
from slipway_local.state import State

DATABASE, PROGRAM = 2, 1
"""Priorities: PostgreSQL starts first and stops last; Jobs and predictors, with 0, start last."""
_LEFT_OUT = {"HOME", "SLIPWAY_ACTOR", "SLIPWAY_IMAGE"}
"""Variables of the chart that name a container's user and image."""
_INNER_PORTS = (9000, 8082)
"""Ports of gRPC and metrics of a predictor, which only its own pod uses."""


class LocalObjects:
    """The objects of one state folder."""

    def __init__(self, settings: LocalSettings, state: State) -> None:
        self._settings = settings
        self._state = state
        self.postgres = Postgres(state)
        # Secrets in it have passwords.
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
        return Identity(self._state, self._state.port("identity"))

    def manifests(self) -> Iterator[Manifest]:
        """Yield all objects."""
        for name, values in self._secrets().items():
            yield _secret(name, values)
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "slipway-trusted-keys"},
            "data": {"keys.pem": self._state.trusted_key()},
        }
        yield self._postgresql()
        yield from map(self._localized, rendered(self._replacements()))

    def images(self) -> dict[str, Image]:
        """Return the images of the containers."""
        apps = Image(path=self._settings.apps, workdir=Path.cwd())
        jobs = Image(apps.path, env={"SLIPWAY_GIT_REVISION": git_revision()}, workdir=Path.cwd())
        return {
            **{f"slipway/{name}:local": apps for name in ("gateway", "controller", "identity")},
            **dict.fromkeys(("slipway/jobs:local", *packages.images()), jobs),
            "slipway/serving:local": Image(self._settings.serving.absolute()),
            "slipway/local": apps,
            "postgres:local": Image(self.postgres.programs),
        }

    def _replacements(self) -> Mapping[str, str]:
        """Return new texts for addresses, paths and an option in the rendered chart."""
        identity, gateway = urlsplit(self.identity.issuer).netloc, urlsplit(self.gateway_url).netloc
        return {
            "kubernetes://slipway": self.cluster_url,
            "slipway-mlflow.slipway.svc:5000": urlsplit(self.mlflow_url).netloc,
            "slipway-identity.slipway.svc:8000": identity,
            "127.0.0.1:8000": identity,
            "127.0.0.1:8080": gateway,
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, so that nothing listens on it
            "file:///mlflow/artifacts": f"file://{self._state.folder('artifacts')}",
            "/run/postgresql": quote(self.postgres.host),
            "ENABLE_REGISTRATION = false": (
                f"ENABLE_REGISTRATION = {json.dumps(self._settings.registration)}"
            ),
        }

    def _secrets(self) -> dict[str, dict[str, str]]:
        secret = self._state.secret
        return {
            **{
                f"slipway-database-{name}": {
                    "username": name,
                    "password": secret(f"postgres-{name}"),
                }
                for name in DATABASES
            },
            "slipway-identity": self.identity.secrets,
            # MLflow requires no login here; Jobs and predictors send one, as on a cluster.
            "slipway-mlflow": {
                "username": "slipway",
                "password": secret("mlflow"),
                "flask-secret-key": secret("mlflow-session"),
            },
            "slipway-predictor": {
                "mlflow-tracking-uri": self.mlflow_url,
                "mlflow-username": "predictor",
                "mlflow-password": secret("mlflow-predictor"),
                "token": secret("predictor"),
            },
            "slipway-signing": {"private-key": self._state.signing_key().read_text()},
        }

    def _localized(self, manifest: Manifest) -> Manifest:
        """Change what differs on one machine."""
        component = manifest["metadata"]["labels"]["app.kubernetes.io/component"]
        added = {"training": self._job_variables, "identity": self._mail_variables}
        for container in _containers(manifest):
            container["env"] = [
                *(each for each in container.get("env", []) if each["name"] not in _LEFT_OUT),
                *_variables(added.get(component, dict)()),
            ]
        if manifest["kind"] == "Deployment":
            self._fix(component, manifest["spec"])
        elif manifest["kind"] == "ClusterServingRuntime":
            # All ports, because predictors share the network of the machine.
            (server,) = manifest["spec"]["containers"]
            server["ports"] += [{"containerPort": port} for port in _INNER_PORTS]
        return manifest

    def _fix(self, component: str, spec: Manifest) -> None:
        """Fix the ports and the folders of a program, and its place in the order."""
        pod = spec["template"]["spec"]
        spec["strategy"] = {"type": "Recreate"}
        pod["priority"] = PROGRAM
        (main,) = pod["containers"]
        for port in main["ports"]:
            name = component if port["name"] == "http" else f"{component}-{port['name']}"
            port["hostPort"] = self._state.port(name)
        # A loaded machine is slow; a quick one must not wait.
        main["startupProbe"] |= {"periodSeconds": 1, "failureThreshold": 300}
        if component == "mlflow":
            main["args"].remove("--app-name=basic-auth")
            for owner, key in ((pod, "volumes"), (main, "volumeMounts")):
                owner[key] = [each for each in owner[key] if each["name"] != "artifacts"]
        elif component == "gateway":
            spool = {"name": "spool", "hostPath": {"path": str(self._state.folder("spool"))}}
            pod["volumes"] = [spool if each["name"] == "spool" else each for each in pod["volumes"]]

    def _job_variables(self) -> dict[str, str]:
        data = self._settings.data
        return {
            "SLIPWAY_FETCH": str(self._settings.fetch).lower(),
            **({"SLIPWAY_DATA": str(data.resolve())} if data else {}),
        }

    def _mail_variables(self) -> dict[str, str]:
        if self._settings.smtp is None:
            return {"CANAILLE__SMTP": "null"}  # Canaille's default is port 25 of this machine.
        server = urlsplit(self._settings.smtp)
        return {
            "CANAILLE__SMTP__HOST": str(server.hostname),
            "CANAILLE__SMTP__PORT": str(server.port or 25),
            "CANAILLE__SMTP__FROM_ADDR": "slipway@slipway.example",
        }

    def _postgresql(self) -> Manifest:
        """Return the server from a wheel, where a cluster has a StatefulSet."""
        ready = "/run/slipway/ready"
        labels = {"app.kubernetes.io/component": "postgresql"}
        main = {
            "name": "postgresql",
            "image": "slipway/local",
            "command": [
                *("python", "-m", "slipway_local.postgres", str(self._state.root)),
                # Computed in the pod, it could differ from that of the clients: TMPDIR is another.
                *(self.postgres.host, ready),
            ],
            "env": _variables({"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}),
            "volumeMounts": [{"name": "run", "mountPath": "/run/slipway"}],
            "startupProbe": {
                # The file of a former process stays in the pod when the container is restarted.
                "exec": {"command": ["sh", "-c", f"kill -0 $(cat {ready})"]},
                "periodSeconds": 1,
                # A recovery that is interrupted begins again.
                "failureThreshold": 3600,
            },
        }
        pod = {
            "containers": [main],
            "volumes": [{"name": "run", "emptyDir": {}}],
            "priority": DATABASE,
            # The checkpoint of a shutdown may take long on a slow disk.
            "terminationGracePeriodSeconds": 120,
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "slipway-postgresql", "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }


def rendered(replacements: Mapping[str, str] | None = None) -> list[Manifest]:
    """Return the objects of the rendered chart with texts replaced."""
    text = (resources.files("slipway_local") / "objects" / "chart.json").read_text()
    for old, new in (replacements or {}).items():
        text = text.replace(old, json.dumps(new)[1:-1])
    objects: list[Manifest] = json.loads(text)
    return objects


def git_revision() -> str:
    """Return the commit of the checkout, ``unknown`` outside one."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _containers(manifest: Manifest) -> Iterator[Manifest]:
    """Yield the containers of a workload, and those of KServe's two objects."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    spec = spec.get("template", {}).get("spec", spec)
    yield from spec.get("initContainers", [])
    yield from spec.get("containers", [])
    yield from [spec["container"]] if "container" in spec else []


def _secret(name: str, values: Mapping[str, str]) -> Manifest:
    data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def _variables(values: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]
