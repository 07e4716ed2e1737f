"""The local stack: its objects on the stand-in for Kubernetes, and the steps of their start."""

import json
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from slipway_cluster import CRON_JOB, JOB, MODEL, Cluster, ClusterError, Kind, NotFound, connect
from slipway_contract.model import ConditionType, Model, ModelStatus, training_name

from slipway_local import packages
from slipway_local.identity import ACCOUNTS, TOKEN_SECONDS
from slipway_local.local_objects import LocalObjects
from slipway_local.screen import Screen
from slipway_local.settings import LocalSettings
from slipway_local.standin.job import finished
from slipway_local.standin.kubelet import Kubelet
from slipway_local.standin.probe import answers
from slipway_local.standin.workload import DEPLOYMENT
from slipway_local.state import State


class StartFailed(Exception):
    """The local stack did not start; ``str()`` has the expectation, the observation and the log."""


class LocalStack:
    """All parts as local processes; ``up`` reuses an existing state folder."""

    def __init__(self, settings: LocalSettings, screen: Screen) -> None:
        self.settings = settings
        self.screen = screen
        self.state = State(settings.state)
        self.objects = LocalObjects(settings, self.state)
        self.cluster: Cluster = connect(self.objects.cluster_url)
        self._token, self._token_ends = "", -float("inf")
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="kubelet")
        self._kubelet: Future[None] | None = None

    def up(self) -> None:
        """Start everything and wait until all models are ready. Raises StartFailed."""
        with self.screen.step("postgres") as details:
            self._start()
            self._wait_available("slipway-postgresql")
            details.append("three databases on a Unix socket")
        with self.screen.step("identity") as details:
            self._wait_available("slipway-identity")
            details.append(f"{self.objects.identity.issuer}  (accounts: {', '.join(ACCOUNTS)})")
        with self.screen.step("mlflow") as details:
            self._wait_available("slipway-mlflow")
            details.append(self.objects.mlflow_url)
        with self.screen.step("gateway") as details:
            for name in ("gateway", "worker", "controller"):
                self._wait_available(f"slipway-{name}")
            details.append(self.objects.gateway_url)
        if "quantity" in self.settings.models:
            self._load_sales()
        self._train([name for name in self.settings.models if not self._declare(name)])
        for name in self.settings.models:
            self._serve(name)

    def down(self) -> None:
        """Stop every process; the state stays."""
        self._stop.set()
        self.screen.say("  stopping…")
        self._threads.shutdown()

    def check(self) -> None:
        """Raise ClusterError or StartFailed when the kubelet has ended with an error."""
        if self._kubelet and self._kubelet.done():
            try:
                self._kubelet.result()
            except ClusterError:
                raise
            except Exception as error:
                raise StartFailed(
                    f"the kubelet ended with {error!r}; all parts were stopped; run the command "
                    f"again (logs: {self.settings.state}/cluster/logs)"
                ) from error

    def _start(self) -> None:
        """Apply all objects and start the kubelet."""
        deployments = set()
        for manifest in self.objects.manifests():
            self.cluster.apply(manifest)
            if manifest["kind"] == DEPLOYMENT.name:
                name = manifest["metadata"]["name"]
                deployments.add(name)
                # The status is that of the last start, until the kubelet writes a new one.
                self.cluster.update_status(DEPLOYMENT, name, {})
        images = self.objects.images()
        delete_former(self.cluster, deployments, images)
        kubelet = Kubelet(
            self.objects.cluster_folder,
            images,
            crashed=lambda crash: self.screen.warn(
                f"{crash} (logs: {self.settings.state}/cluster/logs/{crash.name})"
            ),
        )
        self._kubelet = self._threads.submit(kubelet.run, self._stop)

    def _wait(self, what: str, condition: Callable[[], bool], deployment: str = "") -> None:
        """Wait for a condition.

        Raises StartFailed after the deadline, with the end of the Deployment's log if one is given.
        """
        until = time.monotonic() + self.settings.deadline
        while not condition():
            self.check()
            if time.monotonic() > until:
                seen = f"; {self._log_end(deployment)}" if deployment else ""
                raise StartFailed(f"waited {self.settings.deadline:.0f} s for {what}{seen}")
            time.sleep(0.1)

    def _wait_available(self, name: str) -> None:
        self._wait(f"{name} to be ready", lambda: self._is_available(name), name)

    def _is_available(self, name: str) -> bool:
        """Return True when the Deployment has a ready pod.

        Raises StartFailed when an init container failed, which a retry would rarely change.
        """
        for pod in self.cluster.pods(DEPLOYMENT, name):
            for init in pod.get("status", {}).get("initContainerStatuses", []):
                if ended := init["lastState"].get("terminated"):
                    raise StartFailed(
                        f"{init['name']} of {name} ended with status {ended['exitCode']}; "
                        f"the end of its log:\n{ended['message']}"
                    )
        return bool(self.cluster.get(DEPLOYMENT, name).get("status", {}).get("readyReplicas"))

    def _log_end(self, deployment: str) -> str:
        lines = list(self.cluster.logs(DEPLOYMENT, deployment))
        return "the end of its log:\n" + "\n".join(lines[-15:])

    def model(self, name: str) -> Model:
        """Return the current Model; raise NotFound."""
        return Model.model_validate(self.cluster.get(MODEL, name))

    def start_job(self, template: str, *args: str) -> str:
        """Start a Job from a template and return its name."""
        name: str = self.cluster.create_job(template, args=args)["metadata"]["name"]
        return name

    def result(self, job: str) -> dict[str, Any]:
        """Wait for a Job's end and return the last JSON object of its log. Raises StartFailed."""
        self._wait(f"Job {job} to finish", lambda: bool(finished(self.cluster.get(JOB, job))))
        lines = list(self.cluster.logs(JOB, job))
        if finished(self.cluster.get(JOB, job)) != "Complete":
            raise StartFailed(f"Job {job} failed; the end of its log:\n" + "\n".join(lines[-15:]))
        result: dict[str, Any] = json.loads(
            next(line for line in reversed(lines) if line.startswith("{"))
        )
        return result

    def _declare(self, name: str) -> bool:
        """Apply the Model and return True when it has been served before."""
        manifest = self.cluster.apply(packages.declared()[name])
        return bool(Model.model_validate(manifest).status.traffic)

    def _load_sales(self) -> None:
        """Load sales into the warehouse, now and each night, for feature lookups."""
        self.cluster.suspend("etl", False)
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
                jobs[name] = self.start_job(self._template(name))
            name, job = next(iter(jobs.items()))
            with self.screen.step(f"train {name}") as details:
                trained = self.result(job)
                details.append(summary(trained))
            del jobs[name]
            version = str(trained["version"])
            if "metrics" in trained:
                promotions.append(self.start_job("promote", name, version))
            else:
                self._publish(name, version)
        for job in promotions:
            self.result(job)

    def _template(self, name: str) -> str:
        """Return the CronJob of a model's training once it exists."""
        training = self.model(name).spec.training
        template = (training and training.cron_job(name)) or training_name(name)
        self._wait(f"CronJob {template}", lambda: self._exists(CRON_JOB, template))
        return template

    def _exists(self, kind: Kind, name: str) -> bool:
        try:
            self.cluster.get(kind, name)
        except NotFound:
            return False
        return True

    def _publish(self, name: str, version: str) -> None:
        """Sign a version of a user's program and point the alias to it, as a user does in MLflow.

        The gate cannot compare a version without an evaluation table.
        """
        self.result(self.start_job("sign", name, version))
        alias = {"name": name, "alias": self.model(name).spec.alias, "version": version}
        url = f"{self.objects.mlflow_url}/api/2.0/mlflow/registered-models/alias"
        httpx.post(url, json=alias, timeout=30).raise_for_status()

    def _serve(self, name: str) -> None:
        with self.screen.step(f"serve {name}") as details:
            self._wait(f"model {name} to be Ready", lambda: self._answers(name))
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
                self.objects.identity.login("user"),
                time.monotonic() + TOKEN_SECONDS / 2,
            )
        return self._token


def delete_former(cluster: Cluster, deployments: Container[str], images: Container[str]) -> None:
    """Delete the objects of a former version in an old state folder.

    These are all other Deployments, and unfinished Jobs with an image that no longer exists.
    """
    for former in cluster.list(DEPLOYMENT):
        if former["metadata"]["name"] not in deployments:
            cluster.delete(DEPLOYMENT, former["metadata"]["name"])
    for job in cluster.list(JOB):
        pod = job["spec"]["template"]["spec"]
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        if not finished(job) and any(each["image"] not in images for each in containers):
            cluster.delete(JOB, job["metadata"]["name"])


def is_ready(status: ModelStatus) -> bool:
    """Return True when the Model is Ready and no rollout is in progress."""
    ready, progressing = (
        status.condition(ConditionType.READY),
        status.condition(ConditionType.PROGRESSING),
    )
    return bool(ready and ready.status == "True" and progressing and progressing.status == "False")


def summary(trained: dict[str, Any]) -> str:
    """Return one line about a training: dataset, and the first score with its baseline."""
    if "metrics" not in trained:
        return f"version {trained['version']}, without an evaluation"
    metric, score = next(iter(trained["metrics"].items()))
    return (
        f"{trained['dataset']}: {metric} {score:.3f} (baseline {trained['baseline'][metric]:.3f})"
    )


@contextmanager
def running(settings: LocalSettings, screen: Screen) -> Iterator[LocalStack]:
    """Run a local stack inside the ``with`` block and stop it afterwards in any case."""
    stack = LocalStack(settings, screen)
    with stack.state.claim():
        try:
            stack.up()
            yield stack
        finally:
            stack.down()
