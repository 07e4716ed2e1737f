"""Supervisor of the long-running programs of the local stack."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipway_local.screen import Screen
from slipway_local.standin.probe import answers
from slipway_local.standin.process import Process

FIRST_BACKOFF, LAST_BACKOFF = 1.0, 30.0
HEALTHY_SECONDS = 60.0
GRACE_SECONDS = 20.0


class StartFailed(Exception):
    """The local stack did not start; ``str()`` has the expectation, the observation and the log."""


@dataclass(frozen=True)
class Program:
    """A server of the local stack, or a command that prepares one (``port`` None)."""

    name: str
    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    health: str = "/"


@dataclass
class _Run:
    program: Program
    process: Process | None
    started: float
    backoff: float = FIRST_BACKOFF
    due: float = 0.0


class Programs:
    """Starts and supervises programs.

    Call ``watch`` often, always from the thread that started them: the programs die with it.
    """

    def __init__(self, logs: Path, bin_folder: Path, screen: Screen) -> None:
        self._logs = logs
        self._bin = bin_folder
        self._screen = screen
        self._runs: dict[str, _Run] = {}

    def start(self, program: Program) -> None:
        """Start a server; it is restarted whenever it ends, until ``stop``."""
        self._runs[program.name] = _Run(program, self._launch(program), time.monotonic())

    def run(self, *programs: Program, deadline: float) -> None:
        """Run commands concurrently to their ends.

        Raises StartFailed with the end of the log of a failed one.
        """
        running = {program.name: (program, self._launch(program)) for program in programs}
        try:
            for name, (_, process) in running.items():
                self.wait(
                    f"{name} to finish",
                    lambda process=process: process.poll() is not None,  # type: ignore[misc]
                    deadline,
                )
        finally:
            for _, process in running.values():
                process.kill()
        for name, (program, process) in running.items():
            if code := process.poll():
                raise StartFailed(
                    f"{name} ended with status {code}; the end of "
                    f"{self.log(name)}:\n{self._tail(program)}"
                )

    def wait_ready(self, name: str, deadline: float) -> None:
        """Wait until the health path of the server responds. Raises StartFailed."""
        program = self._runs[name].program
        port = program.port
        if port is None:
            raise ValueError(f"{name} has no port to probe")
        self.wait(
            f"{name} to answer {program.health}",
            lambda: answers(port, program.health, 2.0),
            deadline,
            program,
        )

    def wait(
        self,
        what: str,
        condition: Callable[[], bool],
        deadline: float,
        program: Program | None = None,
    ) -> None:
        """Wait for a condition while supervising all programs.

        Raises StartFailed after ``deadline`` seconds.
        """
        until = time.monotonic() + deadline
        while not condition():
            self.watch()
            if time.monotonic() > until:
                seen = (
                    f"; the end of {self.log(program.name)}:\n{self._tail(program)}"
                    if program
                    else ""
                )
                raise StartFailed(f"waited {deadline:.0f} s for {what}{seen}")
            time.sleep(0.1)

    def watch(self) -> None:
        """Report crashed programs and restart them after a back-off."""
        now = time.monotonic()
        for run in self._runs.values():
            if run.process is None:
                if now >= run.due:
                    run.process, run.started = self._launch(run.program), now
                continue
            code = run.process.poll()
            if code is None:
                continue
            if now - run.started > HEALTHY_SECONDS:
                run.backoff = FIRST_BACKOFF
            run.process, run.due = None, now + run.backoff
            again = f"restarts in {run.backoff:.0f} s"
            run.backoff = min(run.backoff * 2, LAST_BACKOFF)
            self._screen.warn(
                f"{run.program.name} crashed (status {code}), {again}; its log: "
                f"{self.log(run.program.name)}"
            )

    def stop(self) -> None:
        """Stop all servers in reverse order of their start."""
        for run in reversed(self._runs.values()):
            if run.process is None:
                continue
            run.process.terminate()
            until = time.monotonic() + GRACE_SECONDS
            while run.process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            run.process.kill()
        self._runs.clear()

    def log(self, name: str) -> Path:
        """Return the file with the output of the program."""
        return self._logs / f"{name}.log"

    def _launch(self, program: Program) -> Process:
        env = {
            **os.environ,
            "PATH": f"{self._bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            **program.env,
        }
        return Process(program.argv, env=env, cwd=Path.cwd(), log_file=self.log(program.name))

    def _tail(self, program: Program, lines: int = 15) -> str:
        path = self.log(program.name)
        return (
            "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            if path.exists()
            else "(empty)"
        )
