"""Predictions that are made later: accepted, answered by workers that may die, kept, and told of."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from slipway_contract.url import is_public

from tests import skew
from tests.gateway.environment import House, Visitor, v2_request
from tests.gateway.loopback import wait_for
from tests.gateway.predictor import ROW, Predictor
from tests.gateway.workers import Receiver, Workers, is_signed

SUCCEEDED = "state = 'succeeded'"
PATIENCE = 60.0
"""Seconds; a worker is a process that has to start first."""
ENDS = ("succeeded", "failed", "dead", "cancelled")


@pytest.fixture(scope="module")
def busy(new_house: Callable[[], House]) -> House:
    """A house with a worker."""
    house = new_house()
    house.model("heart", ("3", 100))
    house.model("asleep", message="suspended")
    return house


@pytest.fixture(scope="module")
def worker(busy: House) -> Iterator[Workers]:
    with Workers(busy, webhook_hosts=["127.0.0.1"]) as workers:
        yield workers


@pytest.fixture(scope="module")
def visitor(busy: House) -> Iterator[Visitor]:
    with busy.gateway(webhook_hosts=["127.0.0.1"]) as visitor:
        yield visitor


def later(visitor: Visitor, who: str = "ada", model: str = "heart", **headers: str) -> httpx.Response:
    headers = {"Prefer": "respond-async", **headers}
    return visitor.post(f"/v2/models/{model}/infer", v2_request(), who, **headers)


def named(visitor: Visitor, row: dict[str, Any], **headers: str) -> httpx.Response:
    headers = {"Prefer": "respond-async", **headers}
    return visitor.post("/v1/models/heart/predictions", {"instances": [row]}, **headers)


def ended(visitor: Visitor, answer: httpx.Response, who: str = "ada") -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = visitor.get(answer.headers["location"], who).json()
        return seen if seen["state"] in ENDS else None

    assert answer.status_code == 202, answer.text
    return wait_for("the end of the task", look, PATIENCE)


@pytest.mark.usefixtures("worker")
def test_a_task_is_answered_as_its_request_would_have_been(visitor: Visitor) -> None:
    at_once = visitor.infer("heart")
    answer = later(visitor)
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["location"] == answer.headers["location"] == f"/v1/tasks/{answer.json()['taskId']}"
    task = ended(visitor, answer)
    assert (task["state"], task["status"], task["attempts"], task["error"]) == ("succeeded", 200, 1, None)
    assert task["result"] == at_once.json()
    result = visitor.get(f"{answer.headers['location']}/result")
    assert (result.status_code, result.content) == (200, at_once.content)
    for name in ("content-type", "slipway-model", "slipway-version", "slipway-digest"):
        assert result.headers[name] == at_once.headers[name]
    receipt = visitor.get(f"/v1/predictions/{task['requestId']}").json()
    assert (receipt["caller"], receipt["decision"], receipt["protocol"], receipt["status"]) == (
        "user:ada",
        "predict:user",
        "v2",
        200,
    )


@pytest.mark.usefixtures("worker")
def test_gateway_and_worker_serve_a_model_of_a_later_release(visitor: Visitor, busy: House, worker: Workers) -> None:
    busy.model("newer", ("3", 90), ("2", 10))
    skew.store(busy.cluster, "newer")
    wait_for("the model", lambda: visitor.infer("newer").status_code == 200)
    assert {visitor.infer("newer").headers["slipway-version"] for _ in range(60)} == {"2", "3"}
    assert ended(visitor, later(visitor, model="newer"))["state"] == "succeeded"
    assert "not understood" not in worker.log.read_text()


def test_named_features_can_be_asked_later_too(visitor: Visitor) -> None:
    at_once = visitor.post("/v1/models/heart/predictions", {"instances": [ROW]}).json()
    task = ended(visitor, named(visitor, ROW))
    assert task["result"]["predictions"] == at_once["predictions"]
    assert task["result"]["requestId"] == task["requestId"]


@pytest.mark.usefixtures("worker")
def test_what_the_model_refuses_is_a_failed_task_and_not_tried_again(visitor: Visitor) -> None:
    answer = visitor.post("/v2/models/heart/infer", v2_request(age=-1.0), Prefer="respond-async")
    task = ended(visitor, answer)
    assert (task["state"], task["status"], task["attempts"]) == ("failed", 422, 1)
    assert "below the minimum" in task["error"]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "text"),
    [
        ("/v2/models/nobody/infer", {}, {}, 404, "nobody"),
        ("/v2/models/heart/versions/9/infer", {}, {}, 404, "version 9"),
        ("/v1/models/heart/predictions", {"instances": [{**ROW, "age": -5}]}, {}, 422, "age: -5 is below"),
        ("/v1/models/heart/predictions", {"rows": []}, {}, 422, "instances"),
        ("/v2/models/heart/infer", b"x" * (2**20 + 1), {}, 413, "larger"),
        ("/v2/models/heart/infer", {}, {"content-type": "text/csv"}, 415, "application/json"),
        ("/v2/models/heart/infer", {}, {"Idempotency-Key": "a b"}, 422, "Idempotency-Key"),
        ("/v2/models/heart/infer", {}, {"Slipway-Priority": "urgent"}, 422, "low, normal, high"),
        ("/v2/models/heart/infer", {}, {"Slipway-Priority": "high"}, 403, "gives normal, not high"),
    ],
)
def test_what_is_wrong_for_certain_is_refused_at_once(
    visitor: Visitor, path: str, content: Any, headers: dict[str, str], status: int, text: str
) -> None:
    answer = visitor.post(path, content, Prefer="respond-async", **headers)
    assert answer.status_code == status, answer.text
    assert text in answer.text


@pytest.mark.parametrize("prefer", ["wait=10", "return=minimal", "not-respond-async"])
def test_another_preference_changes_nothing(visitor: Visitor, prefer: str) -> None:
    assert later(visitor, Prefer=prefer).status_code == 200


@pytest.mark.parametrize("prefer", ["Respond-Async, wait=5", "wait=5,respond-async", "respond-async;x=1"])
def test_the_preference_may_stand_among_others(visitor: Visitor, prefer: str) -> None:
    answer = later(visitor, Prefer=prefer)
    assert answer.status_code == 202
    visitor.client.delete(answer.headers["location"], headers=visitor._headers("ada"))


@pytest.mark.usefixtures("worker")
def test_a_task_is_its_owners_and_nobody_elses_but_an_admins(visitor: Visitor) -> None:
    answer = later(visitor)
    path = answer.headers["location"]
    ended(visitor, answer)
    headers = visitor._headers("bob")
    for each in (visitor.get(path, "bob"), visitor.get(f"{path}/result", "bob"), visitor.client.delete(path, headers=headers)):
        assert each.status_code == 404
    assert visitor.get("/v1/tasks/nothing").status_code == 404
    assert visitor.get("/v1/tasks", "bob").json() == {"tasks": []}
    assert visitor.get(path, "root").json()["caller"] == "user:ada"
    assert visitor.get("/v1/tasks?all=true", "bob").status_code == 403
    everybodys = visitor.get("/v1/tasks?all=true&state=succeeded", "root").json()["tasks"]
    assert answer.json()["taskId"] in {each["taskId"] for each in everybodys}
    assert visitor.post(f"{path}/replay", {}, "ada").status_code == 403
    assert visitor.post(f"{path}/replay", {}, "root").status_code == 409, "it is not dead"


@pytest.mark.usefixtures("worker")
def test_the_same_key_is_the_same_task(visitor: Visitor) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: later(visitor, Idempotency_Key="once"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["taskId"] for answer in answers}) == 1
    other = named(visitor, ROW, Idempotency_Key="once")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert later(visitor, "bob", Idempotency_Key="once").json()["taskId"] != answers[0].json()["taskId"]
    task = ended(visitor, answers[0])
    assert visitor.house.count(f"request_id = '{task['requestId']}'") == 1


@pytest.mark.usefixtures("worker")
def test_a_model_that_sleeps_is_tried_again_until_the_task_is_dead_and_an_admin_replays_it(visitor: Visitor, busy: House) -> None:
    answer = later(visitor, model="asleep")
    task = ended(visitor, answer)
    assert (task["state"], task["status"], task["attempts"]) == ("dead", 503, 3)
    assert "asleep is not ready" in task["error"]
    dead = visitor.get("/v1/tasks?state=dead&all=true", "root").json()["tasks"]
    assert [each["taskId"] for each in dead] == [task["taskId"]]
    busy.model("asleep", ("1", 100))
    assert visitor.post(f"{answer.headers['location']}/replay", {}, "root").status_code == 202
    again = ended(visitor, answer)
    assert (again["state"], again["requestId"] != task["requestId"]) == ("succeeded", True)
    assert again["attempts"] <= 2, "it is counted anew; the worker may hear of the model a moment after the test"
    assert busy.count(f"request_id = '{again['requestId']}' AND status = 200") == 1


def test_a_cancelled_task_is_never_answered(new_house: Callable[[], House], troubled: Predictor) -> None:
    house = new_house()
    house.model("heart", ("3", 100), url=troubled.url)
    troubled.delay = 1.0
    with house.gateway() as visitor:
        waiting, running = later(visitor), later(visitor)
        headers = visitor._headers("ada")
        assert visitor.client.delete(waiting.headers["location"], headers=headers).json()["state"] == "cancelled"
        assert visitor.get(f"{waiting.headers['location']}/result").status_code == 409
        with Workers(house):
            wait_for("the attempt", lambda: troubled.asked, PATIENCE)
            assert visitor.client.delete(running.headers["location"], headers=headers).status_code == 200
            troubled.delay = 0.0
            assert ended(visitor, later(visitor))["state"] == "succeeded"
            wait_for("the end of the attempt", lambda: _jobs(house) == 0)
        assert visitor.client.delete(running.headers["location"], headers=headers).status_code == 409
        states = Counter(each["state"] for each in visitor.get("/v1/tasks").json()["tasks"])
    assert states == {"cancelled": 2, "succeeded": 1}
    assert house.count() == 1
    assert troubled.asked == ["heart-3", "heart-3"], "the first was cancelled before a worker saw it"


def test_the_priority_of_the_policy_goes_first_and_a_caller_may_step_back(
    new_house: Callable[[], House], troubled: Predictor
) -> None:
    house = new_house()
    house.model("heart", ("3", 100), url=troubled.url)
    with psycopg.connect(house.database_url) as connection:
        connection.execute("INSERT INTO policies (name, priority) VALUES ('urgent', 'high')")
        connection.execute("INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('x', 'user:root', 'heart', 'urgent')")
    with house.gateway() as visitor:
        asked = [("low", "root", later(visitor, "root", Slipway_Priority="low")), ("normal", "ada", later(visitor))]
        asked += [("high", "root", later(visitor, "root")), ("low", "ada", later(visitor, Slipway_Priority="low"))]
        with Workers(house, task_concurrency=1):
            done = [(ended(visitor, answer, who)["finished"], priority) for priority, who, answer in asked]
    assert [priority for _, priority in sorted(done)] == ["high", "normal", "low", "low"]


def test_a_task_whose_event_the_database_refuses_is_dead_and_not_tried_for_ever(new_house: Callable[[], House]) -> None:
    house = new_house()
    house.model("heart", ("3", 100))
    house.model("lung", ("1", 100))
    with psycopg.connect(house.database_url) as connection:
        connection.execute("ALTER TABLE prediction_events ADD CHECK (model <> 'heart')")
    with house.gateway() as visitor, Workers(house):
        refused, good = later(visitor), later(visitor, model="lung")
        assert ended(visitor, refused)["state"] == "dead"
        assert ended(visitor, good)["state"] == "succeeded"
        wait_for("an empty queue", lambda: _jobs(house) == 0)
    assert house.count() == 1


def test_a_task_of_a_later_releases_priority_is_put_back_and_answered_as_any_other(new_house: Callable[[], House]) -> None:
    house = new_house()
    house.model("heart", ("3", 100))
    with house.gateway() as visitor:
        answers = [later(visitor) for _ in range(2)]
        with psycopg.connect(house.database_url) as connection:
            connection.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_priority")
            connection.execute("UPDATE tasks SET due = now() - interval '1 hour'")
            strange = [answers[0].json()["taskId"]]
            connection.execute("UPDATE tasks SET priority = 'of a later release' WHERE task_id = %s", strange)
            connection.execute("DELETE FROM procrastinate_jobs")  # nobody looks at them any more
        with Workers(house):
            assert [ended(visitor, answer)["state"] for answer in answers] == ["succeeded"] * 2


def test_a_caller_has_so_many_unfinished_tasks_and_no_more(new_house: Callable[[], House]) -> None:
    house = new_house()
    house.model("heart", ("3", 100))
    with house.gateway(tasks_per_caller=2) as visitor:
        assert [later(visitor).status_code for _ in range(3)] == [202, 202, 429]
        assert "retry-after" in later(visitor).headers
        assert later(visitor, "bob").status_code == 202


@pytest.mark.timeout(400)
def test_killed_again_and_again_the_workers_answer_each_of_100_tasks_exactly_once(
    new_house: Callable[[], House], troubled: Predictor
) -> None:
    house = new_house()
    house.model("heart", ("3", 100), url=troubled.url)
    troubled.delay = 0.15
    workers = Workers(house, 2, task_concurrency=4)
    with house.gateway() as visitor:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: later(visitor), range(100)))
        assert {answer.status_code for answer in answers} == {202}
        for share in (15, 40, 70):
            with workers:
                _wait_for_answers(house, share)
            assert _count(house, SUCCEEDED) < 100
        with workers:
            _wait_for_answers(house, 100)
            wait_for("an empty queue", lambda: _jobs(house) == 0)
            assert workers.stop() == [0, 0]
    assert len(troubled.asked) > 100, "no attempt was under way when the workers were killed"
    with psycopg.connect(house.database_url) as connection:
        tasks = connection.execute("SELECT task_id, request_id, attempts FROM tasks").fetchall()
        events = [row[0] for row in connection.execute("SELECT request_id FROM prediction_events")]
    assert {task_id for task_id, _, _ in tasks} == {answer.json()["taskId"] for answer in answers}
    assert sorted(events) == sorted(request_id for _, request_id, _ in tasks)
    assert {attempts for _, _, attempts in tasks} == {1}, "a killed worker is no failed attempt"


def test_a_task_is_paid_for_when_it_is_accepted_and_counted_once(new_house: Callable[[], House]) -> None:
    house = new_house()
    house.model("heart", ("3", 100))
    with psycopg.connect(house.database_url) as connection:
        connection.execute("INSERT INTO policies (name, requests_per_day) VALUES ('few', 3)")
        connection.execute("INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('x', 'user:ada', 'heart', 'few')")
    with house.gateway() as visitor:
        answers = [later(visitor, Idempotency_Key=key) for key in ("a", "a", "b", "b", "c")]
        assert [answer.status_code for answer in answers] == [202] * 5
        assert later(visitor).status_code == 429
        with Workers(house):
            for answer in answers:
                assert ended(visitor, answer)["state"] == "succeeded"
    with psycopg.connect(house.database_url) as connection:
        assert connection.execute("SELECT policy, requests FROM usage").fetchall() == [("few", 3)]


def test_expired_tasks_are_forgotten(new_house: Callable[[], House]) -> None:
    house = new_house()
    house.model("heart", ("3", 100))
    with house.gateway(task_keep_seconds=0.5) as visitor, Workers(house, task_keep_seconds=0.5):
        path = later(visitor).headers["location"]
        wait_for("the end of its time", lambda: visitor.get(path).status_code == 404, PATIENCE)
    assert house.count() == 1, "the event log keeps what happened"


def test_a_webhook_is_signed_repeated_until_it_is_taken_and_follows_no_redirect(visitor: Visitor, worker: Workers) -> None:
    with Receiver() as receiver:
        receiver.statuses = [302, 500]
        made = visitor.post("/v1/webhooks", {"url": f"{receiver.server.url}/done"}, "carol")
        assert made.status_code == 201
        task = ended(visitor, later(visitor, "carol"), "carol")
        wait_for("three deliveries", lambda: len(receiver.taken) == 3)
        wait_for("the note of it", lambda: visitor.get("/v1/webhooks", "carol").json()["webhooks"][0]["delivered"])
        (listed,) = visitor.get("/v1/webhooks", "carol").json()["webhooks"]
        headers, body = receiver.taken[0]
        assert len({(each["webhook-id"], content) for each, content in receiver.taken}) == 1
        assert all(is_signed(made.json()["secret"], *each) for each in receiver.taken)
        assert not is_signed(made.json()["secret"], headers, body + b" ")
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert b'"type":"task.succeeded"' in body
        assert task["taskId"].encode() in body
        assert "secret" not in listed
        assert (listed["problem"], listed["failed"] < listed["delivered"]) == ("127.0.0.1 answered 500", True)
        path = f"/v1/webhooks/{made.json()['webhookId']}"
        assert visitor.client.delete(path, headers=visitor._headers("bob")).status_code == 404
        assert visitor.client.delete(path, headers=visitor._headers("carol")).status_code == 204
        assert visitor.get("/v1/webhooks", "carol").json() == {"webhooks": []}
    assert made.json()["secret"] not in worker.log.read_text()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://example.com/x", "not an http or https URL"),
        ("file:///etc/passwd", "not an http or https URL"),
        ("http://localhost:5432/", "not a public host"),
        ("http://[::1]/", "not a public host"),
        ("http://[::ffff:169.254.169.254]/", "not a public host"),
        ("http://169.254.169.254/latest/meta-data", "not a public host"),
        ("http://10.0.0.1/", "not a public host"),
        ("http://0x7f.1/", "not a public host"),
        ("http://0/", "not a public host"),
        ("http://user:password@8.8.8.8/", "user or a password"),
        ("http://nowhere.invalid/", "has no address"),
        ("http://8.8.8.8:99999/", "not a URL"),
        ("http://", "not an http or https URL"),
        ("http://127.0.0.1\\attacker.example/", "is not a host"),
        ("http://%6cocalhost/", "has an escape or a zone in its host"),
        ("http://ⓛocalhost/", "localhost is not a public host"),
        ("http://１０.0.0.1/", "10.0.0.1 is not a public host"),
        ("http://[fe80::1%25eth0]/", "has an escape or a zone in its host"),
    ],
)
def test_a_webhook_to_a_neighbour_is_refused(visitor: Visitor, url: str, text: str) -> None:
    answer = visitor.post("/v1/webhooks", {"url": url})
    assert answer.status_code == 422
    assert text in answer.json()["errors"][0]["problem"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public(address) is public


def _wait_for_answers(house: House, count: int) -> None:
    wait_for(f"{count} answers", lambda: _count(house, SUCCEEDED) >= count, PATIENCE)


def _count(house: House, where: str) -> int:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM tasks WHERE {where}").fetchone()  # noqa: S608  # type: ignore[arg-type]
    assert row
    return int(row[0])


def _jobs(house: House) -> int:
    with psycopg.connect(house.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
    assert row
    return int(row[0])
