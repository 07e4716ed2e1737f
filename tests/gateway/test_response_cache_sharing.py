"""Sharing of cached responses by Redis, and its failures, with a real server (redisserver.py)."""

import itertools
import logging
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor
from tests.gateway.redisserver import PASSWORD, RedisServer
from tests.support.processes import free_port
from tests.support.waiting import wait_for

COMPUTED = "Slipway-Redis; fwd=miss; stored, Slipway; fwd=miss; stored"
ALONE = "Slipway; fwd=miss; stored"
FROM_ANOTHER = "Slipway-Redis; hit; ttl="


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def own_environment(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> Environment:
    """``ada`` has a policy with a cache; ``bob`` has not."""
    environment = new_environment()
    environment.predictor = own_predictor
    environment.model("heart", ("3", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name, cache_seconds) VALUES ('cached', 60)")
        connection.execute("INSERT INTO grants VALUES ('x', 'user:ada', '*', 'cached')")
    return environment


@contextmanager
def replicas(
    environment: Environment, url: str, count: int = 2, **settings: Any
) -> Iterator[list[Client]]:
    given = {
        "redis_url": url,
        "redis_password": PASSWORD,
        "redis_seconds": 5,
        "redis_rest_seconds": 0.2,
        **settings,
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                environment.gateway(spool=environment.folder / f"spool-{each}", **given)
            )
            for each in range(count)
        ]


def status(client: Client, who: str = "ada", **changed: Any) -> str:
    answer = client.infer("heart", who, **changed)
    assert answer.status_code == 200
    return str(answer.headers.get("cache-status"))


def up(client: Client) -> float | None:
    return client.gateway.metrics.registry.get_sample_value("slipway_redis_up")


def test_replicas_share_responses(
    own_environment: Environment, redis: RedisServer, own_predictor: Predictor
) -> None:
    with replicas(own_environment, redis.url) as (one, other):
        first, second = one.infer("heart", request_id="one"), other.infer("heart", request_id="two")
        assert first.headers["cache-status"] == COMPUTED
        shared, own = second.headers["cache-status"].split(", ")
        assert shared.startswith(FROM_ANOTHER)
        assert 50 <= int(shared.removeprefix(FROM_ANOTHER)) <= 60
        assert own == ALONE
        assert {**first.json(), "id": "two"} == second.json()
        assert second.headers["content-type"] == first.headers["content-type"]
        assert status(other).startswith("Slipway; hit; ttl="), "it is also stored locally"
        assert len(own_predictor.asked) == 1
        wait_for("the log", lambda: own_environment.count() == 3)
        assert [up(one), up(other)] == [1, 1]


def test_a_shared_response_expires(own_environment: Environment, redis: RedisServer) -> None:
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute("UPDATE policies SET cache_seconds = 5 WHERE name = 'cached'")
    with replicas(own_environment, redis.url) as (one, other):
        assert status(one) == COMPUTED
        assert status(other).startswith(FROM_ANOTHER)
        wait_for("its end", lambda: status(other) == COMPUTED)
        assert redis.client.pttl(redis.client.keys()[0]) <= 5000


def test_without_a_policy_that_enables_the_cache_redis_is_not_used(
    own_environment: Environment, redis: RedisServer
) -> None:
    with replicas(own_environment, redis.url) as (one, other):
        assert [status(each, "bob") for each in (one, other)] == ["None", "None"]
        assert redis.client.dbsize() == 0


def test_a_promotion_invalidates_the_cache_of_all_replicas(
    own_environment: Environment, redis: RedisServer, own_predictor: Predictor
) -> None:
    with replicas(own_environment, redis.url) as both:
        assert [status(each)[:20] for each in both] == [COMPUTED[:20], FROM_ANOTHER[:20]]
        own_environment.model("heart", ("4", 100), url=own_predictor.url)
        for each in both:
            wait_for("the new version", partial(_is_new, each))
        answers = [each.infer("heart") for each in both]
        assert [answer.headers["slipway-version"] for answer in answers] == ["4", "4"]
        assert answers[0].headers["cache-status"] == COMPUTED
        assert answers[1].headers["cache-status"].startswith(FROM_ANOTHER)


def _is_new(client: Client) -> bool:
    return client.infer("heart", "bob").headers["slipway-version"] == "4"


def test_a_response_over_the_size_limit_is_not_shared(
    own_environment: Environment, redis: RedisServer, own_predictor: Predictor
) -> None:
    own_predictor.raw = b'{"model_name": "heart-3", "outputs": [], "parameters": {"x": "%s"}}' % (
        b"x" * 2**18
    )
    with replicas(own_environment, redis.url, log_body_limit=2**20) as (one, other):
        assert [status(one), status(other)] == [ALONE, ALONE]
        assert up(one) == 1


@pytest.mark.slow
def test_no_request_fails_when_redis_is_killed_under_load_and_sharing_resumes(
    own_environment: Environment, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "slipway_gateway.redis")
    ages, statuses = itertools.count(), []

    def ask(client: Client, age: float) -> str:
        statuses.append(status(client, age=age))
        return statuses[-1]

    def ask_something_new(client: Client) -> str:
        return ask(client, next(ages) / 1000)

    def is_shared_again(client: Client) -> bool:
        return ask_something_new(client) == COMPUTED

    with replicas(own_environment, redis.url) as both, ThreadPoolExecutor(8) as threads:

        def submit(numbers: range) -> list[Future[str]]:
            return [threads.submit(ask, both[each % 2], 20 + each // 4) for each in numbers]

        load = submit(range(200))
        wait_for("a part of the load", lambda: len(statuses) > 100)
        redis.kill()
        load += submit(range(200, 400))
        wait_for("the rest of the load", lambda: all(each.done() for each in load))
        assert sorted(each.result() for each in load) == sorted(statuses)
        assert [each for each in statuses if each.startswith(FROM_ANOTHER)], "before"
        assert ALONE in statuses, "and after"
        for each in both:
            assert ask_something_new(each) == ALONE
            assert up(each) == 0
        redis.start()
        for each in both:
            wait_for("its return", partial(is_shared_again, each))
            assert up(each) == 1
        assert [ask(each, 130)[: len(FROM_ANOTHER)] for each in both] == [
            COMPUTED[: len(FROM_ANOTHER)],
            FROM_ANOTHER,
        ]
        wait_for("the log", lambda: own_environment.count() == len(statuses))
        assert own_environment.count("status = 200") == len(statuses)
    lines = [
        record.getMessage().partition(":")[0]
        for record in caplog.records
        if record.name.endswith(".redis")
    ]
    assert Counter(lines) == {
        "Redis does not answer, answers are not shared": 2,
        "Redis answers again; answers are shared": 2,
    }


@contextmanager
def silence() -> Iterator[tuple[str, list[Any]]]:
    """Run a server that never responds; return its URL and the accepted connections."""
    taken: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    taken.append(server.accept())

        thread = threading.Thread(target=take)
        thread.start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}", taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection, _ in taken:
            connection.close()


def test_a_redis_without_responses_is_tried_once_and_then_skipped(
    own_environment: Environment,
) -> None:
    with (
        silence() as (url, taken),
        replicas(own_environment, url, count=1, redis_seconds=0.1, redis_rest_seconds=600) as (
            client,
        ),
    ):
        assert [status(client, age=age) for age in (20.0, 30.0, 40.0)] == [ALONE] * 3
        assert status(client, age=20.0).startswith("Slipway; hit; ttl=")
        assert len(taken) == 1
        assert up(client) == 0


def test_predictions_succeed_without_access_to_redis(
    own_environment: Environment, redis: RedisServer
) -> None:
    unused = f"redis://127.0.0.1:{free_port()}"
    for url, password in ((redis.url, "a wrong password"), (unused, PASSWORD)):
        with replicas(own_environment, url, count=1, redis_password=password) as (client,):
            assert status(client) == ALONE
            assert up(client) == 0


def test_redis_py_is_not_imported_without_redis() -> None:
    # import-linter checks that no other module imports it
    script = "import sys, slipway_gateway.redis; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_invalid_redis_url_is_rejected_at_startup(
    own_environment: Environment,
) -> None:
    with pytest.raises(ValidationError, match="must begin with redis://, rediss:// or unix://"):
        own_environment.settings(redis_url="http://127.0.0.1:6379")
