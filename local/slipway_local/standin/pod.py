"""One pod as local processes: init containers, then the container with its restartPolicy."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from slipway_cluster.clock import precise_stamp, utc_now
from slipway_cluster.interface import Manifest, NotFound

from slipway_local.standin.container import Image, Launch, PodFolder, launch
from slipway_local.standin.job import Backoff
from slipway_local.standin.pod_log import PodLog
from slipway_local.standin.probe import Probes
from slipway_local.standin.process import Process, kill_leftovers
from slipway_local.standin.workload import Container, Data, PodSpec

RETRIES = "slipway.dev/retries"
"""Annotation: limit of container restarts of the pod; no limit if absent."""
TICK_SECONDS = 0.05
STOPPED = "Stopped"
_MESSAGE_LIMIT = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crash:
    """A process that ended unexpectedly."""

    kind: str
    """Kind of the object that owns the pod: Job, Deployment or InferenceService."""
    name: str
    pod: str
    container: str
    exit_code: int
    restarts: int
    message: str
    """Its termination message, else the end of its output."""

    def __str__(self) -> str:
        last_line = self.message.rsplit("\n", 1)[-1]
        return (
            f"{self.kind} {self.name}: {self.container} ended with "
            f"{self.exit_code}{': ' if last_line else ''}{last_line}"
        )


@dataclass
class ContainerStatus:
    """State of one container, in the format of Kubernetes."""

    name: str
    restarts: int = 0
    ready: bool = False
    started: bool = False
    process: str = ""
    state: Manifest = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last_state: Manifest = field(default_factory=dict)

    def manifest(self) -> Manifest:
        return {
            "name": self.name,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
            "containerID": self.process,
        }


Report = Callable[[Manifest], None]
"""Receives the pod's new status."""


class Pod:
    """A thread that runs a pod to its end. Its processes die with the thread."""

    def __init__(
        self,
        manifest: Manifest,
        folder: Path,
        *,
        images: Mapping[str, Image],
        data: Data,
        ports: Mapping[int, int],
        backoff: Backoff,
        log_limit: int,
        report: Report,
        crashed: Callable[[Crash], None],
    ) -> None:
        self.manifest = manifest
        self.ports = dict(ports)
        self._spec = PodSpec.model_validate(manifest["spec"])
        self.priority = self._spec.priority
        self._folder = PodFolder(folder, self._spec)
        self._images = images
        self._data = data
        self._backoff = backoff
        self._log_limit = log_limit
        self._report = report
        self._crashed = crashed
        retries = manifest["metadata"].get("annotations", {}).get(RETRIES)
        self._retries = None if retries is None else int(retries)
        self._stopping = threading.Event()
        self._draining = True
        self._init = [ContainerStatus(container.name) for container in self._spec.init_containers]
        self._main = ContainerStatus(self._spec.main.name)
        self._start_time = precise_stamp(utc_now())
        # The interpreter does not wait for a daemon thread; the parent-death signal ends its
        # processes then.
        self._thread = threading.Thread(
            target=self._run, name=manifest["metadata"]["name"], daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, drain: bool = True) -> None:
        """Request the end of the pod; without ``drain``, skip preStop."""
        self._draining = drain
        self._stopping.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end and return True when the pod has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            succeeded = self._run_all()
        except Exception:  # the edge of this thread: the pod must not seem to be running
            log.exception("pod %s", self.manifest["metadata"]["name"])
            succeeded = False
        self._report_phase("Succeeded" if succeeded else "Failed")

    def _run_all(self) -> bool:
        self._folder.make()
        self._report_phase("Pending")
        every = [
            *zip(self._spec.init_containers, self._init, strict=True),
            (self._spec.main, self._main),
        ]
        return all(
            self._run_container(container, status, is_init=status is not self._main)
            for container, status in every
        )

    def _run_container(
        self, container: Container, status: ContainerStatus, *, is_init: bool
    ) -> bool:
        """Run a container until it succeeds (True), fails permanently or is stopped (False)."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once(container, status, is_init=is_init)
            if code is None:
                break
            restarts = self._spec.restart_policy == "Always" and not is_init
            if code == 0 and not restarts:
                return True
            self._announce(status)
            if self._spec.restart_policy == "Never" or (
                self._retries is not None and status.restarts >= self._retries
            ):
                return False
            failures = 1 if time.monotonic() - began >= self._backoff.reset_after else failures + 1
            self._wait(status, self._backoff.delay(failures))
            status.restarts += 1
        return False

    def _run_once(
        self, container: Container, status: ContainerStatus, *, is_init: bool
    ) -> int | None:
        """Run the container's process to its end; return the exit code, None if it was stopped."""
        pod_log = PodLog(self._folder.log(container.name))
        output_begins = pod_log.size()
        image = self._images.get(container.image)
        if image is None:
            return self._not_started(
                status, f"image {container.image!r} is not among {', '.join(sorted(self._images))}"
            )
        try:
            self._folder.fill(self._data)
            prepared = self._launch(container, image)
        except NotFound as error:
            return self._not_started(status, str(error))
        if not prepared.argv:
            return self._not_started(
                status,
                f"neither container {container.name!r} nor image {container.image!r} has a command",
            )
        self._folder.termination_log(container.name).write_bytes(b"")
        started_at = precise_stamp(utc_now())
        process = _start(prepared, pod_log.path)
        status.process = str(process.id)
        status.state = {"running": {"startedAt": started_at}}
        try:
            code, reason = self._watch(process, container, status, pod_log, is_init=is_init)
        finally:
            process.kill()
            kill_leftovers([], [self.manifest["metadata"]["uid"]])
        status.ready = status.started = False
        status.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "message": self._message(
                    container.name, pod_log, output_begins, failed=code != 0 or not is_init
                ),
                "startedAt": started_at,
                "finishedAt": precise_stamp(utc_now()),
            }
        }
        return None if reason == STOPPED else code

    def _watch(
        self,
        process: Process,
        container: Container,
        status: ContainerStatus,
        pod_log: PodLog,
        *,
        is_init: bool,
    ) -> tuple[int, str]:
        """Probe the process until it ends or has to end; return the exit code and the reason."""
        probes = Probes(container, self.ports, partial(self._execute, container), time.monotonic())
        phase: Literal["Pending", "Running"] = "Pending" if is_init else "Running"
        reported: tuple[bool, bool] | None = None
        while (code := process.poll()) is None:
            if self._stopping.is_set():
                status.ready = False
                self._report_phase(phase)
                return self._end(process, container), STOPPED
            problem = None if is_init else probes.turn(time.monotonic())
            if problem:
                log.warning(
                    "%s: %s: %s", self.manifest["metadata"]["name"], container.name, problem
                )
                return self._end(process, container), problem
            if reported != (probes.started, probes.ready):
                reported = status.started, status.ready = probes.started, probes.ready
                self._report_phase(phase)
            pod_log.keep_below(self._log_limit // 2)
            self._stopping.wait(TICK_SECONDS)
        return code, "Completed" if code == 0 else "Error"

    def _execute(self, container: Container, command: Sequence[str], timeout: float) -> bool:
        """Run a command like the container's own; return True when it ends with 0 in time."""
        probed = container.model_copy(update={"command": list(command), "args": []})
        try:
            prepared = self._launch(probed, self._images[container.image])
            done = subprocess.run(
                prepared.argv,
                env=prepared.env,
                cwd=prepared.cwd,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        except (NotFound, OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _launch(self, container: Container, image: Image) -> Launch:
        return launch(container, image, self._folder, self.ports, self.manifest, self._data)

    def _end(self, process: Process, container: Container) -> int:
        """Execute preStop, send SIGTERM, and after the grace period SIGKILL to the whole group."""
        deadline = time.monotonic() + self._spec.termination_grace_period_seconds
        if container.lifecycle and self._draining:
            self._await_end(
                process,
                min(deadline, time.monotonic() + container.lifecycle.pre_stop.sleep.seconds),
            )
        process.terminate()
        code = self._await_end(process, deadline)
        if code is None:
            process.kill()
            code = process.poll()
        return 137 if code is None else code

    @staticmethod
    def _await_end(process: Process, deadline: float) -> int | None:
        while (code := process.poll()) is None and time.monotonic() < deadline:
            time.sleep(TICK_SECONDS)
        return code

    def _wait(self, status: ContainerStatus, seconds: float) -> None:
        """Wait for the back-off before a restart; the status shows it."""
        status.last_state = status.state
        status.state = {
            "waiting": {
                "reason": "CrashLoopBackOff",
                "message": f"back-off {seconds:g}s restarting failed container",
            }
        }
        self._report_phase("Pending" if status is not self._main else "Running")
        self._stopping.wait(seconds)

    def _not_started(self, status: ContainerStatus, message: str) -> int:
        now = precise_stamp(utc_now())
        status.state = {
            "terminated": {
                "exitCode": 128,
                "reason": "StartError",
                "message": message,
                "startedAt": now,
                "finishedAt": now,
            }
        }
        return 128

    def _message(self, container: str, pod_log: PodLog, output_begins: int, *, failed: bool) -> str:
        """Return the program's termination message, else after a failure the end of its output."""
        with self._folder.termination_log(container).open("rb") as file:
            written = file.read(_MESSAGE_LIMIT).decode("utf-8", "replace").strip()
        return written or (pod_log.tail(output_begins) if failed else "")

    def _announce(self, status: ContainerStatus) -> None:
        ended = status.state["terminated"]
        owner = self.manifest["metadata"]["ownerReferences"][0]
        crash = Crash(
            kind=owner["kind"],
            name=owner["name"],
            pod=self.manifest["metadata"]["name"],
            container=status.name,
            exit_code=ended["exitCode"],
            restarts=status.restarts,
            message=ended["message"],
        )
        self._crashed(crash)

    def _report_phase(self, phase: str) -> None:
        self._report(
            {
                "phase": phase,
                "startTime": self._start_time,
                "podIP": "127.0.0.1",
                "ports": {str(port): real for port, real in self.ports.items()},
                "initContainerStatuses": [status.manifest() for status in self._init],
                "containerStatuses": [self._main.manifest()],
            }
        )


def _start(prepared: Launch, log_file: Path) -> Process:
    return Process(prepared.argv, env=prepared.env, cwd=prepared.cwd, log_file=log_file)
