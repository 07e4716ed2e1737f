"""The local stack: programs, their settings, and the order of their start."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from slipway_cluster import JOB, MODEL, Cluster, Manifest, connect
from slipway_contract.model import ConditionType, Model, ModelStatus

from slipway_local.identity import ACCOUNTS, AUDIENCE, SCIM_CLIENT, TOKEN_SECONDS, Identity
from slipway_local.postgres import Postgres
from slipway_local.programs import Program, Programs, StartFailed
from slipway_local.screen import Screen
from slipway_local.settings import LocalSettings
from slipway_local.standin.job import finished
from slipway_local.standin.kubelet import Image, Kubelet
from slipway_local.standin.probe import answers
from slipway_local.state import State
from slipway_local.templates import templates

MODELS = Path("manifests/models")


class LocalStack:
    """All parts as local processes; ``up`` reuses an existing state folder."""

    def __init__(self, settings: LocalSettings, screen: Screen) -> None:
        self.settings = settings
        self.screen = screen
        self.state = State(settings.state)
        self.postgres = Postgres(self.state)
        self.programs = Programs(self.state.folder("logs"), settings.apps, screen)
        self.cluster_url = f"local://{self.state.folder('cluster')}"
        self.cluster: Cluster = connect(self.cluster_url)
        self._token, self._token_ends = "", -float("inf")
        self._stop_pods = threading.Event()
        self._pods: threading.Thread | None = None

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.state.port('gateway')}"

    @property
    def mlflow_url(self) -> str:
        return f"http://127.0.0.1:{self.state.port('mlflow')}"

    @property
    def identity(self) -> Identity:
        return Identity(
            self.state,
            self.state.port("identity"),
            self.postgres.sqlalchemy_url("identity"),
            redirect_uris=[f"{self.gateway_url}/", f"{self.gateway_url}/v1/docs/login"],
            smtp=self.settings.smtp,
            registration=self.settings.registration,
        )

    def up(self) -> None:
        """Start everything and wait until all models are ready. Raises StartFailed."""
        wait = self.settings.deadline
        with self.screen.step("postgres") as details:
            self.postgres.start()
            details.append("three databases on a Unix socket")
        # MLflow starts slowly and the next steps do not need it.
        self.programs.start(self._mlflow())
        with self.screen.step("identity") as details:
            # Both migrate their databases.
            self.programs.run(
                Program(
                    "identity-setup",
                    ["python", "-m", "slipway_identity"],
                    self.identity.environment,
                ),
                Program(
                    "gateway-migrate",
                    ["python", "-m", "slipway_gateway", "migrate"],
                    self._gateway_env(),
                ),
                deadline=wait,
            )
            self.programs.start(self._identity())
            self.programs.wait_ready("identity", wait)
            details.append(f"{self.identity.issuer}  (accounts: {', '.join(ACCOUNTS)})")
        with self.screen.step("mlflow") as details:
            self.programs.wait_ready("mlflow", wait)
            details.append(self.mlflow_url)
        self._start_pods()
        with self.screen.step("gateway") as details:
            self.programs.start(
                Program(
                    "controller", ["python", "-m", "slipway_controller"], self._controller_env()
                )
            )
            self.programs.start(self._gateway())
            self.programs.start(
                Program("worker", ["python", "-m", "slipway_gateway", "work"], self._worker_env())
            )
            self.programs.wait_ready("gateway", wait)
            details.append(self.gateway_url)
        if "quantity" in self.settings.models:
            self._load_sales()
        self._train([name for name in self.settings.models if not self._declare(name)])
        for name in self.settings.models:
            self._serve(name)

    def down(self) -> None:
        """Stop every process; the state stays."""
        self._stop_pods.set()
        if self._pods:
            self._pods.join()
        self.programs.stop()
        self.postgres.stop()

    def model(self, name: str) -> Model:
        """Return the current Model; raise NotFound."""
        return Model.model_validate(self.cluster.get(MODEL, name))

    def start_job(self, template: str, *args: str) -> str:
        """Start a Job from a template and return its name."""
        name: str = self.cluster.create_job(template, args=args)["metadata"]["name"]
        return name

    def result(self, job: str) -> dict[str, Any]:
        """Wait for a Job's end and return the last JSON object of its log. Raises StartFailed."""
        self.programs.wait(
            f"Job {job} to finish",
            lambda: bool(finished(self.cluster.get(JOB, job))),
            self.settings.deadline,
        )
        lines = list(self.cluster.logs(JOB, job))
        if finished(self.cluster.get(JOB, job)) != "Complete":
            raise StartFailed(f"Job {job} failed; the end of its log:\n" + "\n".join(lines[-15:]))
        result: dict[str, Any] = json.loads(
            next(line for line in reversed(lines) if line.startswith("{"))
        )
        return result

    def _declare(self, name: str) -> bool:
        """Apply the sample Model and return True when it has been served before."""
        manifest = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
        return bool(Model.model_validate(self.cluster.apply(manifest)).status.traffic)

    def _load_sales(self) -> None:
        """Load sales into the warehouse, now and each night, for feature lookups."""
        nightly = next(each for each in templates() if each["metadata"]["name"] == "etl")
        nightly["spec"]["suspend"] = False
        self.cluster.apply(nightly)
        with self.screen.step("etl") as details:
            loaded = self.result(self.start_job("etl"))
            kind = "synthetic sales" if loaded["synthetic"] else "sales"
            details.append(
                f"{kind} through {loaded['newest']}: {loaded['inserted']} new, "
                f"{loaded['changed']} changed"
            )

    def _train(self, names: list[str]) -> None:
        """Train and promote models; the number of concurrent Jobs is limited."""
        waiting = list(reversed(names))
        jobs: dict[str, str] = {}
        promotions = []
        while waiting or jobs:
            while waiting and len(jobs) < self.settings.side_by_side:
                name = waiting.pop()
                jobs[name] = self.start_job(f"train-{name}")
            name, job = next(iter(jobs.items()))
            with self.screen.step(f"train {name}") as details:
                trained = self.result(job)
                details.append(summary(trained))
            del jobs[name]
            promotions.append(self.start_job("promote", name, str(trained["version"])))
        for job in promotions:
            self.result(job)

    def _serve(self, name: str) -> None:
        with self.screen.step(f"serve {name}") as details:
            self.programs.wait(
                f"model {name} to be Ready", lambda: self._answers(name), self.settings.deadline
            )
            live = self.model(name).status.traffic[0]
            details.append(f"version {live.version}  {live.digest[:19]}…")

    def _answers(self, name: str) -> bool:
        """Return True when the Model is Ready and its live predictor responds.

        The status alone may be older than this start.
        """
        status = self.model(name).status
        if not is_ready(status):
            return False
        live = urlsplit(status.traffic[0].url)
        return answers(live.port or 80, f"/v2/models/{status.traffic[0].service}/ready", 2.0)

    @property
    def user_token(self) -> str:
        """An access token of the account ``user``, reused for half of its lifetime.

        Canaille returns 500 for a second login within a second. Raises httpx.HTTPError.
        """
        if time.monotonic() >= self._token_ends:
            self._token, self._token_ends = (
                self.identity.login("user"),
                time.monotonic() + TOKEN_SECONDS / 2,
            )
        return self._token

    def _start_pods(self) -> None:
        images = {
            "slipway-jobs": Image(
                path=self.settings.apps, env=self._jobs_env(), workdir=Path.cwd()
            ),
            "slipway-serving": Image(
                path=self.settings.serving.absolute(), env=self._serving_env()
            ),
        }
        for manifest in objects():
            self.cluster.apply(manifest)
        kubelet = Kubelet(
            self.state.folder("cluster"), images, crashed=lambda crash: self.screen.warn(str(crash))
        )
        self._pods = threading.Thread(target=kubelet.run, args=[self._stop_pods], name="kubelet")
        self._pods.start()

    def _mlflow(self) -> Program:
        port = self.state.port("mlflow")
        env = {
            "MLFLOW_BACKEND_STORE_URI": self.postgres.sqlalchemy_url("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"file://{self.state.folder('artifacts')}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        }
        argv = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        return Program("mlflow", argv, env, port, "/health")

    def _identity(self) -> Program:
        port = self.state.port("identity")
        bind = ["--bind", f"127.0.0.1:{port}", "--workers", "0"]  # 0: in this process
        argv = ["hypercorn", *bind, "slipway_identity.application:create_app()"]
        return Program(
            "identity", argv, self.identity.environment, port, "/.well-known/openid-configuration"
        )

    def _gateway(self) -> Program:
        return Program(
            "gateway",
            ["python", "-m", "slipway_gateway", "serve"],
            self._gateway_env(),
            self.state.port("gateway"),
            "/readyz",
        )

    def _gateway_env(self) -> dict[str, str]:
        return {
            "SLIPWAY_CLUSTER": self.cluster_url,
            "SLIPWAY_DATABASE_URL": self.postgres.url("slipway"),
            "SLIPWAY_OIDC_ISSUER": self.identity.issuer,
            "SLIPWAY_OIDC_AUDIENCE": AUDIENCE,
            "SLIPWAY_OIDC_REQUIRE_AT_JWT": "true",
            "SLIPWAY_GATEWAY_PORT": str(self.state.port("gateway")),
            "SLIPWAY_GATEWAY_METRICS_PORT": str(self.state.port("metrics")),
            "SLIPWAY_SPOOL": str(self.state.folder("spool")),
            # No limits on the user's own machine.
            "SLIPWAY_PREDICTIONS_PER_MINUTE": "1000000",
            "SLIPWAY_TRAINING_PER_MINUTE": "1000",
            "SLIPWAY_PREDICTOR_TOKEN": self.state.secret("predictor"),
            "SLIPWAY_SCIM_URL": f"{self.identity.issuer}/scim/v2",
            "SLIPWAY_SCIM_CLIENT_ID": SCIM_CLIENT,
            "SLIPWAY_SCIM_CLIENT_SECRET": self.identity.scim_secret,
        }

    def _worker_env(self) -> dict[str, str]:
        ports = {"SLIPWAY_GATEWAY_METRICS_PORT": str(self.state.port("worker-metrics"))}
        return (
            self._gateway_env() | ports | {"SLIPWAY_SPOOL": str(self.state.folder("worker-spool"))}
        )

    def _controller_env(self) -> dict[str, str]:
        return {
            "SLIPWAY_CLUSTER": self.cluster_url,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "SLIPWAY_PREDICTOR_TOKEN": self.state.secret("predictor"),
        }

    def _serving_env(self) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "SLIPWAY_SERVING_TOKEN": self.state.secret("predictor"),
            "SLIPWAY_STORAGE_TRUSTED_KEYS": self.state.trusted_key(),
        }

    def _jobs_env(self) -> dict[str, str]:
        env = {
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "SLIPWAY_DATABASE_URL": self.postgres.url("slipway"),
            "SLIPWAY_PREDICTOR_TOKEN": self.state.secret("predictor"),
            "SLIPWAY_SIGNING_KEY": str(self.state.signing_key()),
            "SLIPWAY_GIT_REVISION": git_revision(),
            "SLIPWAY_FETCH": str(self.settings.fetch).lower(),
        }
        return env | (
            {"SLIPWAY_DATA": str(self.settings.data.resolve())} if self.settings.data else {}
        )


def objects() -> Iterator[Manifest]:
    """Yield the runtime, the storage initializer and the Job templates of the local cluster."""
    yield from yaml.safe_load_all(
        (resources.files("slipway_local") / "objects" / "serving.yaml").read_text()
    )
    yield from templates()


def is_ready(status: ModelStatus) -> bool:
    """Return True when the Model is Ready and no rollout is in progress."""
    ready, progressing = (
        status.condition(ConditionType.READY),
        status.condition(ConditionType.PROGRESSING),
    )
    return bool(ready and ready.status == "True" and progressing and progressing.status == "False")


def summary(trained: dict[str, Any]) -> str:
    """Return one line about a training: dataset, and the first score with its baseline."""
    metric, score = next(iter(trained["metrics"].items()))
    return (
        f"{trained['dataset']}: {metric} {score:.3f} (baseline {trained['baseline'][metric]:.3f})"
    )


def git_revision() -> str:
    """Return the commit of the checkout, ``unknown`` outside one."""
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


@contextmanager
def running(settings: LocalSettings, screen: Screen) -> Iterator[LocalStack]:
    """Run a local stack inside the ``with`` block and stop it afterwards in any case."""
    stack = LocalStack(settings, screen)
    try:
        stack.up()
        yield stack
    finally:
        stack.down()
