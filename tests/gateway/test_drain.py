"""A gateway that stops loses no request and no event."""

import http.client
import json
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from tests.gateway.environment import Client, Environment, Process, v2_request
from tests.gateway.predictor import Predictor
from tests.support.fault_injection import Network
from tests.support.waiting import SECONDS, wait_for


class Replicas:
    """Two processes behind a simulated Service.

    New connections go to processes whose last probe succeeded; open connections remain.
    """

    def __init__(self, environment: Environment) -> None:
        self.processes = [
            Process(environment, drain_seconds=5.0, spool=environment.folder / f"spool-{number}")
            for number in range(2)
        ]
        self.ready: list[Process] = []
        self.over = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self._threads = [threading.Thread(target=self._probe)]

    def _probe(self) -> None:
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            while not self.over.wait(0.1):
                self.ready = [each for each in self.processes if self._is_ready(client, each)]

    @staticmethod
    def _is_ready(client: httpx.Client, process: Process) -> bool:
        try:
            return client.get(f"{process.client.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def start(self, callers: int, a_second: float, token: str) -> None:
        """Probe the processes and send load over this number of kept connections."""
        self._threads += [
            threading.Thread(target=self._call, args=[callers / a_second, token])
            for _ in range(callers)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, pause: float, token: str) -> None:
        wait_for("a ready replica", lambda: self.ready)
        connection = None
        while not self.over.wait(pause):
            if connection is None:
                connection = http.client.HTTPConnection(self._any_ready(), timeout=SECONDS)
            try:
                if self._ask(connection, token):
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.problems.append(repr(error))
                connection = None
        if connection is not None:
            connection.close()

    def _any_ready(self) -> str:
        return urlsplit(random.choice(self.ready).client.url).netloc  # noqa: S311

    def _ask(self, connection: http.client.HTTPConnection, token: str) -> bool:
        """Send a request and return True if the server closes the connection."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", "/v2/models/heart/infer", json.dumps(v2_request()), headers)
        answer = connection.getresponse()
        answer.read()
        self.statuses[answer.status] += 1
        return answer.getheader("connection") == "close"

    def stop(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(SECONDS)


@pytest.fixture
def replicas(new_environment: Callable[[], Environment]) -> Iterator[Replicas]:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    replicas = Replicas(environment)
    try:
        yield replicas
    finally:
        replicas.stop()
        for each in replicas.processes:
            each.kill()
            each.client.http.close()


@pytest.mark.slow
def test_no_request_is_lost_when_one_of_two_replicas_stops(replicas: Replicas) -> None:
    first, second = replicas.processes
    for each in replicas.processes:
        each.wait_ready()
    replicas.start(callers=8, a_second=20, token=first.client.environment.issuer.token())
    wait_for("load on both", lambda: replicas.statuses[200] >= 30)
    assert first.stop() == 0
    wait_for("the failed probe", lambda: replicas.ready == [second])
    after = replicas.statuses[200]
    wait_for("load on the other", lambda: replicas.statuses[200] >= after + 20)
    replicas.stop()
    assert second.stop() == 0
    assert replicas.problems == []
    assert set(replicas.statuses) == {200}
    environment = first.client.environment
    assert environment.count() == sum(replicas.statuses.values())
    assert not list(environment.folder.glob("spool-*/*.jsonl")), "all events were shipped"


@contextmanager
def closing(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        client.gateway.drain.closing = True
        yield client


def test_a_draining_gateway_serves_is_not_ready_and_closes_connections(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with closing(environment) as client:
        for path in ("/readyz", "/v2/health/ready"):
            answer = client.get(path, who=None)
            assert (answer.status_code, answer.headers["connection"]) == (503, "close")
            assert "shutting down" in answer.text
        for answer in (client.infer("heart"), client.get("/livez", who=None), client.get("/v1/me")):
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")


@pytest.fixture
def behind(new_environment: Callable[[], Environment]) -> Iterator[tuple[Process, Network]]:
    """Provide a gateway with an event that its database does not accept."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with Network(environment.database_url) as network:
        process = Process(
            Environment(environment.folder, network.url, environment.issuer, environment.predictor),
            grace_seconds=40,
            database_seconds=2,
        )
        try:
            process.wait_ready()
            network.cut()
            assert process.client.infer("heart").status_code == 200
            process.client.http.close()
            yield process, network
        finally:
            process.kill()


@pytest.mark.slow
def test_a_terminating_gateway_ships_its_spool_if_the_database_returns_in_time(
    behind: tuple[Process, Network],
) -> None:
    process, network = behind
    process.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):  # it is still running
        process.process.wait(8)
    network.mend()
    assert process.process.wait(SECONDS) == 0
    assert process.client.environment.count() == 1
    assert not list(process.client.environment.spool.glob("*.jsonl"))


@pytest.mark.slow
def test_events_left_at_the_end_of_the_grace_period_are_logged(
    behind: tuple[Process, Network],
) -> None:
    process, _ = behind
    started = time.monotonic()
    process.process.terminate()
    assert process.process.wait(SECONDS) == 0
    assert time.monotonic() - started < 40, "it exceeded the grace period"
    (segment,) = process.client.environment.spool.glob("*.jsonl")
    log = process.log.read_text()
    assert f"{segment.stat().st_size} bytes of events remain in" in log
    assert "ERROR" in log.upper()


@pytest.mark.slow
def test_running_requests_are_finished(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("slow", ("1", 100), url=own_predictor.url)
    process = Process(environment)
    process.wait_ready()
    own_predictor.delay = 3.0
    answers: list[httpx.Response] = []
    with Client(process.client.url, environment) as client:
        caller = threading.Thread(target=lambda: answers.append(client.infer("slow")))
        caller.start()
        wait_for("the running request", lambda: own_predictor.asked)
        begin = time.monotonic()
        assert process.stop() == 0
        caller.join(SECONDS)
    assert time.monotonic() - begin > 0.5
    assert [each.status_code for each in answers] == [200]
    assert environment.count() == 1
