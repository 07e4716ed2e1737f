"""Webhooks: separate delivery slots, limits per host and caller, and verification of the URL."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.workers import Receiver, Workers, is_signed
from tests.support.waiting import wait_for

PATIENCE = 300.0
"""Timeout in seconds; it includes the start of a worker process."""
HOSTS: dict[str, Any] = {"webhook_hosts": ["127.0.0.1", "localhost"]}


@pytest.fixture
def environment(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway(**HOSTS) as client:
        yield client


def register(client: Client, url: str, who: str = "ada") -> dict[str, Any]:
    answer = client.post("/v1/webhooks", {"url": url}, who)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def later(client: Client, who: str = "ada") -> httpx.Response:
    answer = client.post("/v2/models/heart/infer", v2_request(), who, Prefer="respond-async")
    assert answer.status_code == 202, answer.text
    return answer


def wait_for_end(client: Client, answer: httpx.Response, who: str = "ada") -> None:
    path = answer.headers["location"]
    wait_for(
        "the end of the task",
        lambda: client.get(path, who).json()["state"] == "succeeded",
        PATIENCE,
    )


def listed(client: Client, who: str = "ada") -> dict[str, Any]:
    (webhook,) = client.get("/v1/webhooks", who).json()["webhooks"]
    return dict(webhook)


def waiting(environment: Environment) -> int:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM deliveries").fetchone()
    assert row
    return int(row[0])


@pytest.mark.slow
def test_a_url_gets_its_pending_messages_after_it_answers_a_signed_challenge(
    environment: Environment, client: Client
) -> None:
    with Receiver() as receiver:
        made = register(client, receiver.server.url)
        answer = later(client)
        with Workers(environment, **HOSTS):
            wait_for_end(client, answer)
            wait_for("the message", lambda: len(receiver.taken) == 1, PATIENCE)
            wait_for_end(client, second := later(client))
            wait_for("the second message", lambda: len(receiver.taken) == 2, PATIENCE)
        (challenge,) = receiver.challenged
        assert is_signed(made["secret"], *challenge)
        assert {headers["webhook-id"] for headers, _ in receiver.taken} == {
            f"msg_{each.json()['taskId']}" for each in (answer, second)
        }
        assert listed(client)["verified"]


@pytest.mark.slow
@pytest.mark.parametrize("status", [204, 200])
def test_a_url_that_does_not_answer_the_challenge_is_disabled(
    environment: Environment, client: Client, status: int
) -> None:
    with Receiver() as receiver, Workers(environment, **HOSTS, webhook_attempts=2):
        receiver.answers_challenges, receiver.statuses = False, [status] * 100
        register(client, receiver.server.url)
        wait_for_end(client, later(client))
        wait_for("its end", lambda: listed(client)["disabled"], PATIENCE)
        wait_for_end(client, later(client))
    assert [json.loads(body)["type"] for _, body in receiver.taken] == ["webhook.challenge"] * 2
    assert "does not answer the challenge" in listed(client)["problem"]
    assert listed(client)["verified"] is None
    assert waiting(environment) == 0


@pytest.mark.slow
def test_a_slow_receiver_delays_neither_predictions_nor_the_webhooks_of_others(
    environment: Environment, client: Client
) -> None:
    with (
        Receiver() as slow,
        Receiver() as quick,
        Workers(environment, **HOSTS, task_concurrency=1, webhook_concurrency=4),
    ):
        slow.seconds = 4.0
        register(client, slow.server.url)
        register(client, quick.server.url.replace("127.0.0.1", "localhost"), "bob")
        many = [later(client) for _ in range(16)]
        for answer in many:
            wait_for_end(client, answer)
        wait_for("slow deliveries", lambda: slow.under_way, PATIENCE)
        wait_for_end(client, later(client, "bob"), "bob")
        wait_for("the quick delivery", lambda: len(quick.taken) == 1, PATIENCE)
        assert len(slow.taken) < len(many), "the slow one has pending messages"
        wait_for("all slow deliveries", lambda: len(slow.taken) == len(many), PATIENCE)
    assert slow.most_under_way == 2, "of four slots"


@pytest.mark.slow
def test_a_failing_webhook_is_disabled_and_its_messages_are_dropped(
    environment: Environment, client: Client
) -> None:
    with (
        Receiver() as receiver,
        Workers(environment, **HOSTS, webhook_attempts=100, webhook_failures=3),
    ):
        made = register(client, receiver.server.url)
        wait_for("the challenge", lambda: listed(client)["verified"], PATIENCE)
        receiver.statuses = [500] * 100
        for _ in range(4):
            wait_for_end(client, later(client))
        wait_for("its end", lambda: listed(client)["disabled"], PATIENCE)
        taken = len(receiver.taken)
        assert 3 <= taken <= 4, "a second attempt may have been running"
        assert waiting(environment) == 0
        wait_for_end(client, later(client))
        assert waiting(environment) == 0, "it gets no further messages"
        path = f"/v1/webhooks/{made['webhookId']}"
        assert client.http.delete(path, headers=client._headers("ada")).status_code == 204
        receiver.statuses = []
        register(client, receiver.server.url)
        wait_for_end(client, later(client))
        wait_for("a message to the new one", lambda: len(receiver.taken) == taken + 1, PATIENCE)


@pytest.mark.slow
def test_consecutive_failures_pause_all_messages_of_a_webhook(
    environment: Environment, client: Client
) -> None:
    with Receiver() as receiver, Workers(environment, **HOSTS, webhook_attempts=100):
        register(client, receiver.server.url)
        wait_for("the challenge", lambda: listed(client)["verified"], PATIENCE)
        receiver.statuses = [500] * 100
        for _ in range(30):
            later(client)
        wait_for("a pause", lambda: _paused(environment), PATIENCE)
        assert len(receiver.taken) <= 15, (
            "five, running ones and some after short pauses; not all thirty"
        )


def _paused(environment: Environment) -> bool:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute("SELECT paused_until > now() FROM webhooks").fetchone()
    return bool(row and row[0])


@pytest.mark.slow
def test_at_most_1000_messages_of_a_webhook_are_pending(
    environment: Environment, client: Client
) -> None:
    made = register(client, "http://127.0.0.1:9/")
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("UPDATE deliveries SET due = now() + interval '1 hour'")
        fill = (
            "INSERT INTO deliveries (webhook_id, message_id, due) SELECT %s, n::text, now() + "
            "interval '1 hour' "
        )
        connection.execute(fill + "FROM generate_series(1, 998) AS n", [made["webhookId"]])
    with Workers(environment, **HOSTS):
        for _ in range(3):
            wait_for_end(client, later(client))
    assert waiting(environment) == 1000


def test_a_caller_has_at_most_ten_webhooks(client: Client) -> None:
    for _ in range(10):
        register(client, "http://127.0.0.1:9/")
    answer = client.post("/v1/webhooks", {"url": "http://127.0.0.1:9/"})
    assert (answer.status_code, "10 webhooks already" in answer.text) == (409, True)
