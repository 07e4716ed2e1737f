"""Webhooks have slots of their own, bounds for each host and caller, and must prove that they are their owner's."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.gateway.environment import House, Visitor, v2_request
from tests.gateway.loopback import wait_for
from tests.gateway.workers import Receiver, Workers, is_signed

PATIENCE = 60.0
"""Seconds; a worker is a process that has to start first."""
HOSTS: dict[str, Any] = {"webhook_hosts": ["127.0.0.1", "localhost"]}


@pytest.fixture
def house(new_house: Callable[[], House]) -> House:
    house = new_house()
    house.model("heart", ("3", 100))
    return house


@pytest.fixture
def visitor(house: House) -> Iterator[Visitor]:
    with house.gateway(**HOSTS) as visitor:
        yield visitor


def register(visitor: Visitor, url: str, who: str = "ada") -> dict[str, Any]:
    answer = visitor.post("/v1/webhooks", {"url": url}, who)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def later(visitor: Visitor, who: str = "ada") -> httpx.Response:
    answer = visitor.post("/v2/models/heart/infer", v2_request(), who, Prefer="respond-async")
    assert answer.status_code == 202, answer.text
    return answer


def wait_for_end(visitor: Visitor, answer: httpx.Response, who: str = "ada") -> None:
    path = answer.headers["location"]
    wait_for("the end of the task", lambda: visitor.get(path, who).json()["state"] == "succeeded", PATIENCE)


def listed(visitor: Visitor, who: str = "ada") -> dict[str, Any]:
    (webhook,) = visitor.get("/v1/webhooks", who).json()["webhooks"]
    return dict(webhook)


def waiting(house: House) -> int:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM deliveries").fetchone()
    assert row
    return int(row[0])


def test_a_url_answers_a_signed_challenge_once_and_then_gets_what_has_waited(house: House, visitor: Visitor) -> None:
    with Receiver() as receiver:
        made = register(visitor, receiver.server.url)
        answer = later(visitor)
        with Workers(house, **HOSTS):
            wait_for_end(visitor, answer)
            wait_for("the message", lambda: len(receiver.taken) == 1, PATIENCE)
            wait_for_end(visitor, second := later(visitor))
            wait_for("the second message", lambda: len(receiver.taken) == 2, PATIENCE)
        (challenge,) = receiver.challenged
        assert is_signed(made["secret"], *challenge)
        assert {headers["webhook-id"] for headers, _ in receiver.taken} == {
            f"msg_{each.json()['taskId']}" for each in (answer, second)
        }
        assert listed(visitor)["verified"]


@pytest.mark.parametrize("status", [204, 200])
def test_a_url_that_does_not_answer_the_challenge_gets_nothing_else_and_is_disabled(
    house: House, visitor: Visitor, status: int
) -> None:
    with Receiver() as receiver, Workers(house, **HOSTS, webhook_attempts=2):
        receiver.answers_challenges, receiver.statuses = False, [status] * 100
        register(visitor, receiver.server.url)
        wait_for_end(visitor, later(visitor))
        wait_for("its end", lambda: listed(visitor)["disabled"], PATIENCE)
        wait_for_end(visitor, later(visitor))
    assert [json.loads(body)["type"] for _, body in receiver.taken] == ["webhook.challenge"] * 2
    assert "does not answer the challenge" in listed(visitor)["problem"]
    assert listed(visitor)["verified"] is None
    assert waiting(house) == 0


def test_a_slow_receiver_delays_neither_predictions_nor_the_webhooks_of_others(house: House, visitor: Visitor) -> None:
    with Receiver() as slow, Receiver() as quick, Workers(house, **HOSTS, task_concurrency=1, webhook_concurrency=4):
        slow.seconds = 4.0
        register(visitor, slow.server.url)
        register(visitor, quick.server.url.replace("127.0.0.1", "localhost"), "bob")
        many = [later(visitor) for _ in range(8)]
        for answer in many:
            wait_for_end(visitor, answer)
        wait_for("slow deliveries", lambda: slow.under_way, PATIENCE)
        wait_for_end(visitor, later(visitor, "bob"), "bob")
        wait_for("the quick delivery", lambda: len(quick.taken) == 1, PATIENCE)
        assert len(slow.taken) < len(many), "the slow one is not even asked for all yet"
        wait_for("all slow deliveries", lambda: len(slow.taken) == len(many), PATIENCE)
    assert slow.most_under_way == 2, "of four slots"


def test_a_dead_webhook_is_disabled_and_its_messages_are_dropped(house: House, visitor: Visitor) -> None:
    with Receiver() as receiver, Workers(house, **HOSTS, webhook_attempts=100, webhook_failures=3):
        made = register(visitor, receiver.server.url)
        wait_for("the challenge", lambda: listed(visitor)["verified"], PATIENCE)
        receiver.statuses = [500] * 100
        for _ in range(4):
            wait_for_end(visitor, later(visitor))
        wait_for("its end", lambda: listed(visitor)["disabled"], PATIENCE)
        taken = len(receiver.taken)
        assert 3 <= taken <= 4, "a second attempt may have been under way"
        assert waiting(house) == 0
        wait_for_end(visitor, later(visitor))
        assert waiting(house) == 0, "it is notified of nothing any more"
        path = f"/v1/webhooks/{made['webhookId']}"
        assert visitor.client.delete(path, headers=visitor._headers("ada")).status_code == 204
        receiver.statuses = []
        register(visitor, receiver.server.url)
        wait_for_end(visitor, later(visitor))
        wait_for("a message to the new one", lambda: len(receiver.taken) == taken + 1, PATIENCE)


def test_failures_in_a_row_pause_all_messages_of_a_webhook(house: House, visitor: Visitor) -> None:
    with Receiver() as receiver, Workers(house, **HOSTS, webhook_attempts=100):
        register(visitor, receiver.server.url)
        wait_for("the challenge", lambda: listed(visitor)["verified"], PATIENCE)
        receiver.statuses = [500] * 100
        for _ in range(30):
            later(visitor)
        wait_for("a pause", lambda: _paused(house), PATIENCE)
        assert len(receiver.taken) <= 15, "five, and what was under way or came after a short pause; not all thirty"


def _paused(house: House) -> bool:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute("SELECT paused_until > now() FROM webhooks").fetchone()
    return bool(row and row[0])


def test_no_more_than_a_thousand_messages_wait_for_a_webhook(house: House, visitor: Visitor) -> None:
    made = register(visitor, "http://127.0.0.1:9/")
    with psycopg.connect(house.database_url) as connection:
        connection.execute("UPDATE deliveries SET due = now() + interval '1 hour'")
        fill = "INSERT INTO deliveries (webhook_id, message_id, due) SELECT %s, n::text, now() + interval '1 hour' "
        connection.execute(fill + "FROM generate_series(1, 998) AS n", [made["webhookId"]])
    with Workers(house, **HOSTS):
        for _ in range(3):
            wait_for_end(visitor, later(visitor))
    assert waiting(house) == 1000


def test_a_caller_has_ten_webhooks_and_no_more(visitor: Visitor) -> None:
    for _ in range(10):
        register(visitor, "http://127.0.0.1:9/")
    answer = visitor.post("/v1/webhooks", {"url": "http://127.0.0.1:9/"})
    assert (answer.status_code, "10 webhooks already" in answer.text) == (409, True)
