"""The response cache: enabled by the policy, logged and counted, and empty after a promotion."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from slipway_gateway.http.link import Answer
from slipway_gateway.inference.response_cache import OVERHEAD, CacheKey, ResponseCache

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.predictor import ROW, Predictor
from tests.support.waiting import wait_for

MISS, HIT = "Slipway; fwd=miss; stored", "Slipway; hit; ttl="


@pytest.fixture
def own_environment(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> Environment:
    """``ada`` has a policy with a cache and a quota of a hundred a day; ``bob`` has not."""
    environment = new_environment()
    environment.predictor = own_predictor
    environment.model("heart", ("3", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(
            "INSERT INTO policies (name, cache_seconds, requests_per_day) VALUES ('cached', "
            "60, 100)"
        )
        connection.execute(
            "INSERT INTO grants VALUES ('x', 'user:ada', '*', 'cached'), ('y', 'user:carl', "
            "'*', 'cached')"
        )
    return environment


@pytest.fixture
def client(own_environment: Environment) -> Iterator[Client]:
    with own_environment.gateway() as client:
        yield client


def test_equal_tensors_are_computed_once_and_each_response_has_its_own_id(
    client: Client, own_predictor: Predictor
) -> None:
    first = client.infer("heart", request_id="one")
    second = client.infer("heart", "carl", request_id="two")
    assert first.headers["cache-status"] == MISS
    assert second.headers["cache-status"].startswith(HIT)
    assert (first.json()["id"], second.json()["id"]) == ("one", "two")
    assert {**first.json(), "id": "two"} == second.json()
    assert second.headers["slipway-digest"] == first.headers["slipway-digest"]
    assert len(own_predictor.asked) == 1


def test_responses_of_a_runtime_that_proves_no_version_are_not_cached(
    own_environment: Environment, client: Client, own_predictor: Predictor
) -> None:
    own_environment.model("other", ("1", 100), verified=False)
    asked = [client.infer("other") for _ in range(2)]
    assert [each.status_code for each in asked] == [200, 200]
    assert len(own_predictor.asked) == 2


def test_the_order_of_keys_does_not_matter_and_any_value_does(
    client: Client, own_predictor: Predictor
) -> None:
    request = v2_request()
    turned = {name: request[name] for name in reversed(request)}
    turned["inputs"] = [
        {name: tensor[name] for name in reversed(tensor)} for tensor in request["inputs"]
    ]
    client.post("/v2/models/heart/infer", request)
    assert client.post("/v2/models/heart/infer", turned).headers["cache-status"].startswith(HIT)
    fewer = {**request, "outputs": [{"name": "label"}]}
    assert client.post("/v2/models/heart/infer", fewer).headers["cache-status"] == MISS
    assert client.infer("heart", age=26.0).headers["cache-status"] == MISS
    assert len(own_predictor.asked) == 3


def test_named_features_share_the_cache(client: Client, own_predictor: Predictor) -> None:
    answers = [client.post("/v1/models/heart/predictions", {"instances": [ROW]}) for _ in range(2)]
    assert [answer.headers["cache-status"][:12] for answer in answers] == [MISS[:12], HIT[:12]]
    assert answers[0].json()["predictions"] == answers[1].json()["predictions"]
    assert answers[1].json()["requestId"] == answers[1].headers["x-request-id"]
    assert len(own_predictor.asked) == 1


def test_without_a_policy_that_enables_the_cache_each_request_is_computed(
    client: Client, own_predictor: Predictor
) -> None:
    answers = [client.infer("heart", "bob") for _ in range(2)]
    assert not [answer for answer in answers if "cache-status" in answer.headers]
    assert len(own_predictor.asked) == 2


def test_a_hit_is_logged_and_counted(client: Client, own_environment: Environment) -> None:
    answers = [client.infer("heart") for _ in range(3)]
    wait_for("the log", lambda: own_environment.count() == 3)
    assert client.get("/v1/usage").json()["total"] == 3
    receipt = client.get(f"/v1/predictions/{answers[2].headers['x-request-id']}").json()
    assert receipt["response"] == answers[2].json()
    assert receipt["version"] == "3"


def test_a_promotion_invalidates_the_cache(
    client: Client, own_environment: Environment, own_predictor: Predictor
) -> None:
    client.infer("heart")
    own_environment.model("heart", ("4", 100), url=own_predictor.url)
    wait_for(
        "the new version", lambda: client.infer("heart", "bob").headers["slipway-version"] == "4"
    )
    answer = client.infer("heart")
    assert (answer.headers["cache-status"], answer.headers["slipway-version"]) == (MISS, "4")


def test_equal_concurrent_requests_are_computed_once(
    client: Client, own_predictor: Predictor
) -> None:
    own_predictor.delay = 0.5
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.infer("heart"), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(own_predictor.asked) == 1
    statuses = [answer.headers["cache-status"] for answer in answers]
    assert statuses.count(MISS) == 1
    assert [
        each for each in statuses if each == "Slipway; fwd=miss; collapsed" or each.startswith(HIT)
    ]


def test_a_failure_is_not_cached_and_waiting_requests_are_computed(
    client: Client, own_predictor: Predictor
) -> None:
    own_predictor.delay, own_predictor.raw, own_predictor.status = (
        0.2,
        b'{"error": "out of memory"}',
        500,
    )
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: client.infer("heart"), range(3)))
    assert [answer.status_code for answer in answers] == [500] * 3
    assert len(own_predictor.asked) == 3
    own_predictor.delay, own_predictor.raw = 0, None
    assert client.infer("heart").headers["cache-status"] == MISS


def test_a_rejected_input_is_not_cached(client: Client, own_predictor: Predictor) -> None:
    statuses = [client.infer("heart", age=-1.0) for _ in range(2)]
    assert [(each.status_code, each.headers["cache-status"]) for each in statuses] == [
        (422, "Slipway; fwd=miss")
    ] * 2
    broken = client.post("/v2/models/heart/infer", b"no json")
    assert (broken.status_code, broken.headers["cache-status"]) == (400, "Slipway; fwd=bypass")
    assert len(own_predictor.asked) == 3


def test_the_memory_of_many_short_responses_is_bounded() -> None:
    async def fill() -> int:
        cache = ResponseCache(100 * 2**10)

        async def ask() -> Answer:
            return Answer(200, "application/json", b'{"outputs":[]}', None)

        for number in range(1000):
            await cache.find(CacheKey(number.to_bytes(32), None, 60), ask)
        return len(cache._entries)

    assert 100 < asyncio.run(fill()) < 200


def test_the_oldest_entries_are_evicted_and_all_expire(
    own_environment: Environment, own_predictor: Predictor
) -> None:
    def status(client: Client, age: float) -> Any:
        return client.infer("heart", age=age).headers["cache-status"][:12]

    size = 250 + OVERHEAD
    with own_environment.gateway(cache_limit=2 * size) as client:
        assert [status(client, age) for age in (20.0, 30.0, 40.0)] == [MISS[:12]] * 3  # two fit
        assert status(client, 40.0) == HIT[:12]
        assert status(client, 20.0) == MISS[:12]
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute("UPDATE policies SET cache_seconds = 1 WHERE name = 'cached'")
    with own_environment.gateway() as client:
        assert status(client, 40.0) == MISS[:12]
        before = len(own_predictor.asked)
        wait_for("its end", lambda: status(client, 40.0) == MISS[:12])
        assert len(own_predictor.asked) == before + 1
