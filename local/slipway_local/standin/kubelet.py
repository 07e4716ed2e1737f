"""Executor of a LocalCluster's workloads as local processes."""

import fcntl
import logging
import shutil
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from secrets import token_hex

from slipway_cluster.clock import Clock, utc_now
from slipway_cluster.interface import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CRON_JOB,
    INFERENCE_SERVICE,
    JOB,
    POD,
    ClusterError,
    Conflict,
    Kind,
    Manifest,
    NotFound,
)

from slipway_local.standin import deployment, predictor, schedule
from slipway_local.standin import job as jobs
from slipway_local.standin.container import Image, free_ports
from slipway_local.standin.job import INDEX, Backoff
from slipway_local.standin.local_cluster import LocalCluster
from slipway_local.standin.pod import RETRIES, Crash, Pod
from slipway_local.standin.process import ProcessId, kill_leftovers
from slipway_local.standin.store import Changes
from slipway_local.standin.workload import DEPLOYMENT, SECRET, DeploymentSpec, PodSpec

__all__ = ["Backoff", "Crash", "Image", "Kubelet", "KubeletOptions"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KubeletOptions:
    """Times and limits of the local cluster."""

    backoff: Backoff = field(default_factory=Backoff)
    """Delay between restarts of a container and between pods of a Job."""
    log_bytes: int = 20 * 2**20
    """Size to which the log of a container is limited."""
    turn_seconds: float = 0.5
    """Interval of checks of schedules, deadlines and retries while nothing is written."""


class Kubelet:
    """The executor; only one may run on a state folder at a time.

    Its whole state is in the store, so it continues after an earlier one that stopped or was
    killed: Deployments and InferenceServices restart from their init containers; an interrupted
    pod of a Job counts as failed and is retried within the backoffLimit.
    """

    def __init__(
        self,
        root: Path,
        images: Mapping[str, Image],
        *,
        options: KubeletOptions | None = None,
        crashed: Callable[[Crash], None] = lambda crash: log.warning("%s", crash),
        clock: Clock = utc_now,
    ) -> None:
        """Create an executor on the state folder ``root``.

        ``images`` has the image names of containers as keys. ``crashed`` is called, on the pod's
        thread, for each process that failed or ended unexpectedly.
        """
        self._cluster = LocalCluster(root)
        self._root = root
        self._folder = root / "pods"
        self._folder.mkdir(exist_ok=True)
        self._logs = root / "logs"
        self._logs.mkdir(exist_ok=True)
        self._images = images
        self._options = options or KubeletOptions()
        self._crashed = crashed
        self._clock = clock
        self._pods: dict[str, Pod] = {}
        self._ending: dict[str, Pod] = {}
        self._reporting = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Run until ``stop`` is set, then end every process.

        Raises ClusterError when another kubelet runs on the folder.
        """
        with self._only_one():
            self._abandon_pods()
            changes = Changes(self._cluster.store)
            try:
                while not stop.is_set():
                    self._turn()
                    changes.wait(self._options.turn_seconds, stop.is_set)
            finally:
                changes.close()
                self._stop_all()
                self._cluster.close()

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        with (self._root / "kubelet.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(f"another kubelet runs on {self._root}; stop it first") from None
            yield

    def _abandon_pods(self) -> None:
        """Kill the processes that an earlier kubelet left behind and mark their pods as failed."""
        pods = [pod for pod in self._cluster.list(POD) if not _is_over(pod)]
        containers = [
            container
            for pod in pods
            for field_name in ("initContainerStatuses", "containerStatuses")
            for container in pod.get("status", {}).get(field_name, [])
        ]
        recorded = [
            found
            for container in containers
            if (found := ProcessId.parse(container["containerID"]))
        ]
        kill_leftovers(recorded, [pod["metadata"]["uid"] for pod in pods])
        for pod in pods:
            self._fail(pod, "NodeShutdown")

    def _fail(self, pod: Manifest, reason: str) -> None:
        status = pod.get("status", {})
        containers = [
            {**each, "ready": False, "started": False}
            for each in status.get("containerStatuses", [])
        ]
        status = {**status, "phase": "Failed", "reason": reason, "containerStatuses": containers}
        self._report(pod["metadata"]["name"], status)

    def _turn(self) -> None:
        self._cluster.store.remove_orphans()
        for kind, sync in (
            (CRON_JOB, self._sync_cron_job),
            (JOB, self._sync_job),
            (DEPLOYMENT, self._sync_deployment),
            (INFERENCE_SERVICE, self._sync_service),
        ):
            for manifest in self._cluster.list(kind):
                try:
                    sync(manifest)
                except (NotFound, Conflict):
                    continue  # changed meanwhile: the next turn reads it again
                except Exception:  # a failure of one object must not stop the others
                    log.exception("%s %s", kind.name, manifest["metadata"]["name"])
        self._sync_pods()

    def _sync_cron_job(self, cron_job: Manifest) -> None:
        plan = schedule.plan(
            cron_job, self._cluster.store.owned(JOB, cron_job["metadata"]["uid"]), self._clock()
        )
        for name in plan.delete:
            self._cluster.delete(JOB, name)
        if plan.start:
            with suppress(Conflict):  # started before, and killed before the status was written
                self._cluster.create(plan.start)
        self._cluster.update_status(CRON_JOB, cron_job["metadata"]["name"], plan.status)

    def _sync_job(self, job: Manifest) -> None:
        name = job["metadata"]["name"]
        pods = self._cluster.store.owned(POD, job["metadata"]["uid"])
        plan = jobs.plan(job, pods, self._clock(), self._options.backoff)
        if plan.delete:
            self._cluster.delete(JOB, name)
            return
        self._cluster.update_status(JOB, name, plan.status)
        for pod in pods:
            if pod["metadata"]["name"] in plan.stop:
                self._fail(pod, "Stopped")
        for index in plan.start:
            self._create_job_pod(job, index, plan.retries)

    def _create_job_pod(self, job: Manifest, index: int | None, retries: int) -> None:
        """Create a pod with the labels and annotations that Kubernetes adds: Job name and index."""
        template = job["spec"]["template"]
        labels = {
            **template.get("metadata", {}).get("labels", {}),
            "batch.kubernetes.io/job-name": job["metadata"]["name"],
        }
        annotations = {RETRIES: str(retries)}
        spec = template["spec"]
        if index is not None:
            labels[INDEX] = annotations[INDEX] = str(index)
            variable = {
                "name": "JOB_COMPLETION_INDEX",
                "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}},
            }
            groups = {key: spec[key] for key in ("initContainers", "containers") if key in spec}
            spec = spec | {
                key: [{**each, "env": [*each.get("env", []), variable]} for each in of]
                for key, of in groups.items()
            }
        self._create_pod(JOB, job, spec, labels, annotations)

    def _sync_service(self, service: Manifest) -> None:
        name = service["metadata"]["name"]
        try:
            spec = predictor.pod_spec(
                service,
                self._cluster.list(CLUSTER_SERVING_RUNTIME),
                self._cluster.list(CLUSTER_STORAGE_CONTAINER),
            )
        except predictor.Unresolved as problem:
            former = self._cluster.store.owned(POD, service["metadata"]["uid"])
            status = predictor.unresolved_status(service, former, problem, self._clock())
            self._cluster.update_status(INFERENCE_SERVICE, name, status)
            return
        template = {"metadata": predictor.pod_metadata(service), "spec": spec}
        pods = self._sync_pods_of(INFERENCE_SERVICE, service, template)
        self._cluster.update_status(
            INFERENCE_SERVICE, name, predictor.status(service, pods, self._clock())
        )

    def _sync_deployment(self, manifest: Manifest) -> None:
        spec, name = DeploymentSpec.model_validate(manifest["spec"]), manifest["metadata"]["name"]
        template = manifest["spec"]["template"]
        pods = self._sync_pods_of(
            DEPLOYMENT,
            manifest,
            template if spec.replicas else None,
            recreate=spec.strategy.type == "Recreate",
        )
        self._cluster.update_status(
            DEPLOYMENT, name, deployment.status(manifest, pods, self._clock())
        )

    def _sync_pods_of(
        self,
        kind: Kind,
        owner: Manifest,
        template: Manifest | None,
        *,
        recreate: bool = False,
    ) -> list[Manifest]:
        """Return the owner's pods, the oldest first; there is one of ``template``, none for None.

        A pod of a former template runs until the new one is ready, or is deleted first (recreate).
        """
        wanted = predictor.template_hash(template) if template else ""
        owned = self._cluster.store.owned(POD, owner["metadata"]["uid"])
        current = [
            pod
            for pod in owned
            if pod["metadata"]["labels"][predictor.HASH_LABEL] == wanted and not _is_over(pod)
        ]
        former = [pod for pod in owned if pod not in current and not _is_over(pod)]
        if template and not current:
            metadata = template.get("metadata", {})
            labels = {**metadata.get("labels", {}), predictor.HASH_LABEL: wanted}
            annotations = metadata.get("annotations", {})
            current = [self._create_pod(kind, owner, template["spec"], labels, annotations)]
        if recreate or template is None or any(map(predictor.is_ready, current)):
            former = []
        for pod in owned:
            if pod not in current and pod not in former:
                self._cluster.delete(POD, pod["metadata"]["name"])
        return [*former, *current]

    def _create_pod(
        self,
        kind: Kind,
        owner: Manifest,
        spec: Manifest,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
    ) -> Manifest:
        metadata = owner["metadata"]
        reference = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        return self._cluster.create(
            {
                "apiVersion": POD.api_version,
                "kind": POD.name,
                "metadata": {
                    "name": f"{metadata['name']}-{token_hex(3)}",
                    "labels": dict(labels),
                    "annotations": dict(annotations),
                    "ownerReferences": [{**reference, "controller": True}],
                },
                "spec": spec,
            }
        )

    def _sync_pods(self) -> None:
        """Start new pods; end deleted and finished ones."""
        manifests = {pod["metadata"]["uid"]: pod for pod in self._cluster.list(POD)}
        for uid in self._pods.keys() - {uid for uid, pod in manifests.items() if not _is_over(pod)}:
            self._ending[uid] = self._pods.pop(uid)
            self._ending[uid].stop()
        for uid, manifest in manifests.items():
            known = uid in self._pods or uid in self._ending
            if not known and not _is_over(manifest) and self._may_start(manifest, manifests):
                self._pods[uid] = self._start(manifest)
        self._ending = {uid: pod for uid, pod in self._ending.items() if not pod.join(0)}
        for folder in self._folder.iterdir():
            if folder.name not in manifests and folder.name not in self._ending:
                shutil.rmtree(folder, ignore_errors=True)
                for link in self._logs.iterdir():
                    if link.is_symlink() and folder.name in link.readlink().parts:
                        link.unlink()

    def _may_start(self, manifest: Manifest, every: Mapping[str, Manifest]) -> bool:
        """Return True when its ports are free and all pods of a higher priority are ready."""
        spec = PodSpec.model_validate(manifest["spec"])
        taken = self._taken_ports()
        return not any(port.host_port in taken for port in spec.main.ports) and all(
            predictor.is_ready(pod) or _is_over(pod)
            for pod in every.values()
            if pod["spec"].get("priority", 0) > spec.priority
        )

    def _taken_ports(self) -> set[int]:
        return {
            port
            for pod in (*self._pods.values(), *self._ending.values())
            for port in pod.ports.values()
        }

    def _start(self, manifest: Manifest) -> Pod:
        name = manifest["metadata"]["name"]
        spec = PodSpec.model_validate(manifest["spec"])
        fixed = {port.container_port: port.host_port for port in spec.main.ports if port.host_port}
        free = free_ports(
            [port.container_port for port in spec.main.ports if not port.host_port],
            self._taken_ports() | set(fixed.values()),
        )
        pod = Pod(
            manifest,
            self._folder / manifest["metadata"]["uid"],
            images=self._images,
            data=self._data,
            ports=free | fixed,
            backoff=self._options.backoff,
            log_limit=self._options.log_bytes,
            report=lambda status: self._report(name, status),
            crashed=self._crashed,
        )
        # As in /var/log of a node: the logs are found by the name of the pod's owner.
        link = self._logs / manifest["metadata"]["ownerReferences"][0]["name"]
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..", "pods", manifest["metadata"]["uid"], "logs"))
        pod.start()
        return pod

    def _data(self, kind: Kind, name: str) -> Mapping[str, str]:
        """Return the decoded keys of a Secret or ConfigMap. Raises NotFound."""
        data: Mapping[str, str] = self._cluster.get(kind, name).get("data", {})
        if kind == SECRET:
            return {key: b64decode(value).decode() for key, value in data.items()}
        return data

    def _report(self, pod: str, status: Manifest) -> None:
        with suppress(NotFound), self._reporting:  # deleted meanwhile
            former = self._cluster.get(POD, pod)
            if _is_over(former):  # the end of its processes does not change a finished phase
                status = {
                    **status,
                    "phase": former["status"]["phase"],
                    "reason": former["status"].get("reason", ""),
                }
            self._cluster.update_status(POD, pod, status)

    def _stop_all(self) -> None:
        """End all pods, those of the lowest priority first."""

        def priority(pod: Pod) -> int:
            return pod.priority

        pods = [*self._pods.values(), *self._ending.values()]
        for _, group in groupby(sorted(pods, key=priority), priority):
            ending = list(group)
            for pod in ending:
                pod.stop(drain=False)
            for pod in ending:
                pod.join()
        for kind, status in (
            (INFERENCE_SERVICE, predictor.status),
            (DEPLOYMENT, deployment.status),
        ):
            for owner in self._cluster.list(kind):
                owned = self._cluster.store.owned(POD, owner["metadata"]["uid"])
                with suppress(NotFound):
                    self._cluster.update_status(
                        kind, owner["metadata"]["name"], status(owner, owned, self._clock())
                    )


def _is_over(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
