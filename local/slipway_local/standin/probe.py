"""Startup, readiness and liveness probes of a container, by HTTP or by a command."""

import http.client
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from slipway_local.standin.workload import Container, Probe


def answers(port: int, path: str, timeout: float, headers: Mapping[str, str] | None = None) -> bool:
    """Return True when ``GET path`` on loopback returns 200 to 399 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers or {})
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class _Course:
    """Consecutive successes and failures of one probe."""

    probe: Probe
    passes: Callable[[], bool]
    next: float
    passed: int = 0
    failed: int = 0

    def turn(self, now: float) -> None:
        if now < self.next:
            return
        self.next = now + self.probe.period_seconds
        if self.passes():
            self.passed, self.failed = self.passed + 1, 0
        else:
            self.passed, self.failed = 0, self.failed + 1

    @property
    def has_passed(self) -> bool:
        return self.passed >= self.probe.success_threshold

    @property
    def has_failed(self) -> bool:
        return self.failed >= self.probe.failure_threshold


Execute = Callable[[Sequence[str], float], bool]
"""Run a command in the container's environment; return True when it ends with 0 in time."""


class Probes:
    """Probes of one start of a container. Times are monotonic seconds."""

    def __init__(
        self, container: Container, ports: dict[int, int], execute: Execute, now: float
    ) -> None:
        """Create the probes; ``ports`` maps container ports to real ones."""
        self._names = {port.name: port.container_port for port in container.ports if port.name}
        self._ports = ports
        self._execute = execute
        self._startup = self._course(container.startup_probe, now)
        self._readiness = self._course(container.readiness_probe, now)
        self._liveness = self._course(container.liveness_probe, now)
        self.started = self._startup is None
        self.ready = self.started and self._readiness is None

    def turn(self, now: float) -> str | None:
        """Execute the due probes; return the reason when the container must be restarted."""
        if not self.started and self._startup:
            self._startup.turn(now)
            if self._startup.has_failed:
                return "startup probe failed"
            self.started = self._startup.has_passed
            if not self.started:
                return None
        if self._liveness:
            self._liveness.turn(now)
            if self._liveness.has_failed:
                return "liveness probe failed"
        if self._readiness is None:
            self.ready = True
            return None
        self._readiness.turn(now)
        # Between the thresholds the state does not change.
        self.ready = self._readiness.has_passed or (self.ready and not self._readiness.has_failed)
        return None

    def _course(self, probe: Probe | None, now: float) -> _Course | None:
        if probe is None:
            return None
        return _Course(probe, self._check(probe), now + probe.initial_delay_seconds)

    def _check(self, probe: Probe) -> Callable[[], bool]:
        if probe.http_get:
            port, path = probe.http_get.port, probe.http_get.path
            number = self._names[port] if isinstance(port, str) else port
            headers = {header.name: header.value for header in probe.http_get.http_headers}
            real = self._ports.get(number, number)
            return partial(answers, real, path, probe.timeout_seconds, headers)
        command = probe.exec.command if probe.exec else []
        return partial(self._execute, command, probe.timeout_seconds)
