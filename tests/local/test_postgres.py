"""The PostgreSQL server of the local stack, without the other parts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from slipway_cluster import Manifest
from slipway_local.local_objects import LocalObjects
from slipway_local.postgres import DATABASES, Postgres
from slipway_local.settings import LocalSettings
from slipway_local.state import State

from tests.support.processes import wait_for_start
from tests.support.waiting import wait_for

STOP_SECONDS = 120.0


def command(postgres: Postgres, state: Path, ready: Path) -> list[str | Path]:
    return [sys.executable, "-m", "slipway_local.postgres", state, postgres.host, ready]


@contextmanager
def running(
    postgres: Postgres, state: Path, ready: Path, environment: Mapping[str, str] = os.environ
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the server's program as the local stack does."""
    ready.unlink(missing_ok=True)
    log = ready.with_name("log")
    with log.open("ab") as output:
        program = subprocess.Popen(
            command(postgres, state, ready), env=environment, stdout=output, stderr=output
        )
    try:
        wait_for_start(program, log, ready.exists)
        yield program
    finally:
        program.terminate()
        program.wait(STOP_SECONDS)


def servers(state: Path) -> list[psutil.Process]:
    """Return the PostgreSQL servers with their data in the state folder."""
    return [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres"
        and str(state / "postgres") in (process.info["cmdline"] or [])
    ]


def control_state(postgres: Postgres, state: Path) -> str:
    """Return the state of the data folder after the last end of a server."""
    shown = subprocess.run(
        [postgres.programs / "pg_controldata", state / "postgres"],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("Database cluster state"))
    return line.split(":")[1].strip()


def kill_both(program: "subprocess.Popen[bytes]", state: Path) -> None:
    """Kill the program and its server, as a power loss does."""
    (server,) = servers(state)
    program.kill()
    server.kill()
    program.wait()
    wait_for("the server to end", lambda: not servers(state))


def test_a_stop_after_an_earlier_crash_is_a_clean_shutdown(tmp_path: Path) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    postgres = Postgres(State(state))
    with running(postgres, state, ready) as program:
        kill_both(program, state)
    assert control_state(postgres, state) == "in production"
    with running(postgres, state, ready) as program:
        client = psycopg.connect(postgres.url(DATABASES[0]))  # the stop ends its session
        program.terminate()
        assert program.wait(STOP_SECONDS) == 0
        client.close()
    assert servers(state) == []
    assert control_state(postgres, state) == "shut down"


def test_a_start_that_takes_longer_than_10_seconds_is_not_interrupted(tmp_path: Path) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    postgres = Postgres(State(state))
    with running(postgres, state, ready):
        pass
    ready.unlink()
    program = subprocess.Popen(command(postgres, state, ready))
    try:
        (server,) = wait_for("a server", lambda: servers(state))
        server.suspend()  # in place of a long recovery
        time.sleep(12)
        assert program.poll() is None
        server.resume()
        wait_for("the server to be ready", ready.exists)
        assert servers(state) == [server]
    finally:
        program.terminate()
        assert program.wait(STOP_SECONDS) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_the_server_shuts_down_when_its_program_is_killed(tmp_path: Path) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    postgres = Postgres(State(state))
    with running(postgres, state, ready) as program:
        program.kill()
        wait_for("the server to end", lambda: not servers(state))
    assert control_state(postgres, state) == "shut down"


def test_a_server_of_a_killed_program_is_replaced(tmp_path: Path) -> None:
    state, ready = tmp_path / "state", tmp_path / "ready"
    postgres = Postgres(State(state))
    with running(postgres, state, ready) as program:
        (server,) = servers(state)
        server.suspend()  # it cannot end with its program
        program.kill()
        program.wait()
        ready.unlink()
        successor = subprocess.Popen(command(postgres, state, ready))
        try:
            server.resume()
            wait_for("the successor to be ready", ready.exists)
            assert servers(state) != [server]
        finally:
            successor.send_signal(signal.SIGTERM)
            assert successor.wait(STOP_SECONDS) == 0


def test_a_long_path_has_its_socket_in_the_folder_that_clients_use(tmp_path: Path) -> None:
    state, ready = tmp_path / ("long-" * 30), tmp_path / "ready"
    postgres = Postgres(State(state))
    assert not postgres.host.startswith(str(state))
    own = state / "cluster" / "pods" / "uid" / "tmp"  # TMPDIR in a pod
    own.mkdir(parents=True)
    with (
        running(postgres, state, ready, {**os.environ, "TMPDIR": str(own)}),
        psycopg.connect(postgres.url(DATABASES[0])) as client,
    ):
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_the_ready_file_of_a_former_process_does_not_pass_the_startup_probe(
    tmp_path: Path,
) -> None:
    objects = LocalObjects(LocalSettings(state=tmp_path), State(tmp_path))
    (manifest,) = (each for each in objects.manifests() if is_postgresql(each))
    (main,) = manifest["spec"]["template"]["spec"]["containers"]
    file = tmp_path / "ready"
    probe = [
        word.replace("/run/slipway/ready", str(file))
        for word in main["startupProbe"]["exec"]["command"]
    ]

    def passes() -> bool:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0

    assert not passes()
    ended = subprocess.Popen(["true"])
    ended.wait()
    file.write_text(str(ended.pid))
    assert not passes()
    file.write_text(str(os.getpid()))
    assert passes()


def is_postgresql(manifest: Manifest) -> bool:
    return bool(manifest["metadata"]["name"] == "slipway-postgresql")
