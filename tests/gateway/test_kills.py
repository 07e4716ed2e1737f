"""Consistency of log, ledger and tasks with the responses after kills under load."""

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
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment, Process, v2_request
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.gateway.workers import Receiver, Workers
from tests.support.postgresql import PostgresServer
from tests.support.processes import free_port
from tests.support.waiting import wait_for

THREADS = 4
PATIENCE = 300.0


class Callers:
    """Callers that send requests continuously and record the responses."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.statuses: dict[str, int] = {}
        """Status by request id."""
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
                self.statuses[answer.headers["x-request-id"]] = answer.status_code
                self.last = f"{answer.status_code} {answer.text}"

    def wait(self, status: int, more: int = 50) -> None:
        """Wait until ``more`` further responses have this status."""
        before = Counter(self.statuses.values())[status]
        try:
            wait_for(
                f"{more} more of {status}",
                lambda: Counter(list(self.statuses.values()))[status] >= before + more,
                PATIENCE,
            )
        except AssertionError:
            raise AssertionError(
                f"not {more} more of {status}: {Counter(self.statuses.values())}; last: {self.last}"
            ) from None


@contextmanager
def predictor(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the predictor of the benchmarks as a process that can be killed."""
    command = [sys.executable, "-m", "bench.exchange", "upstream", "--port", str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill(postgres: PostgresServer) -> None:
    """Kill the server with SIGKILL and wait for its child processes."""
    pid = postgres.get_pid()
    assert pid
    family = [psutil.Process(pid), *psutil.Process(pid).children()]
    os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, PATIENCE)
    assert not alive


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Provide an exit stack for processes of a test."""
    with ExitStack() as stack:
        yield stack


def records(environment: Environment) -> tuple[Counter[str], int, int]:
    """Return log entries by request id, number of charged requests, and ledger total."""
    with psycopg.connect(environment.database_url) as connection:
        rows = connection.execute("SELECT request_id, status FROM prediction_events").fetchall()
        used = connection.execute("SELECT sum(requests) FROM usage").fetchone()
    assert used
    return Counter(row[0] for row in rows), sum(row[1] < 500 for row in rows), int(used[0])


@pytest.mark.slow
def test_predictor_database_and_gateway_are_killed_under_load_and_log_and_ledger_equal_the_traffic(
    tmp_path: Path,
    own_postgres: PostgresServer,
    cleanup: ExitStack,
    issuer: Issuer,
    own_predictor: Predictor,
) -> None:
    migrate(own_postgres.get_uri())
    with psycopg.connect(own_postgres.get_uri()) as connection:
        connection.execute("UPDATE policies SET requests_per_day = 1000000")
    environment, port = (
        Environment(tmp_path / "environment", own_postgres.get_uri(), issuer, own_predictor),
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
            kill(own_postgres)
            own_postgres.start()
            callers.wait(200)
            gateway.kill()
            successor = Process(environment)
            cleanup.callback(successor.kill)
            successor.wait_ready()
            callers.client = successor.client
            callers.wait(200)
    gateway.client.http.close()
    assert successor.stop() == 0
    log, paid, used = records(environment)
    assert set(callers.statuses.values()) == {200, 503}
    assert {request for request, status in callers.statuses.items() if status == 200} <= set(log)
    assert set(log.values()) == {1}
    # Logged without a response: at most the requests that were running at the kill.
    assert len(set(log) - set(callers.statuses)) <= THREADS
    assert used == paid
    assert callers.unanswered, "the kill must interrupt a request"


@pytest.mark.slow
def test_successors_of_killed_workers_deliver_the_remaining_events(
    new_environment: Callable[[], Environment],
) -> None:
    environment, count = new_environment(), 12
    environment.model("heart", ("3", 100))
    with Receiver() as receiver, environment.gateway(webhook_hosts=["127.0.0.1"]) as client:
        receiver.statuses, receiver.seconds = [500] * (count // 2), 1.0
        assert (
            client.post("/v1/webhooks", {"url": f"{receiver.server.url}/done"}).status_code == 201
        )
        answers = [
            client.post("/v2/models/heart/infer", v2_request(), Prefer="respond-async")
            for _ in range(count)
        ]
        with Workers(environment, 2, webhook_hosts=["127.0.0.1"]) as workers:
            wait_for("the first events", lambda: len(receiver.taken) >= count // 2, PATIENCE)
            workers.kill()
        delivered_before, receiver.seconds = len(receiver.taken), 0.0
        with Workers(environment, webhook_hosts=["127.0.0.1"]):
            wanted = {f"msg_{answer.json()['taskId']}" for answer in answers}
            wait_for(
                "an event of each task",
                lambda: _taken(receiver, count // 2) >= wanted,
                PATIENCE,
            )
    assert delivered_before < count + count // 2, "no event was left when the workers were killed"
    assert _taken(receiver, 0) == wanted, "no other event is delivered"
    with psycopg.connect(environment.database_url) as connection:
        events = [row[0] for row in connection.execute("SELECT request_id FROM prediction_events")]
    assert sorted(f"msg_{event}" for event in events) == sorted(wanted)


def _taken(receiver: Receiver, refused: int) -> set[str]:
    """Return the ids of events without the first ones, which were rejected."""
    return {headers["webhook-id"] for headers, _ in receiver.taken[refused:]}
