"""Asynchronous predictions: tasks, workers that may be killed, results, and webhooks."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from slipway_contract.url import is_public

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.predictor import ROW, Predictor
from tests.gateway.workers import Receiver, Workers, is_signed
from tests.support import skew
from tests.support.waiting import wait_for

SUCCEEDED = "state = 'succeeded'"
PATIENCE = 300.0
"""Timeout in seconds; it includes the start of a worker process."""
ENDS = ("succeeded", "failed", "dead", "cancelled")


@pytest.fixture(scope="module")
def busy(new_environment: Callable[[], Environment]) -> Environment:
    """Return the environment of a gateway and a worker."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("asleep", message="suspended")
    return environment


@pytest.fixture(scope="module")
def worker(busy: Environment) -> Iterator[Workers]:
    with Workers(busy, webhook_hosts=["127.0.0.1"]) as workers:
        yield workers


@pytest.fixture(scope="module")
def client(busy: Environment) -> Iterator[Client]:
    with busy.gateway(webhook_hosts=["127.0.0.1"]) as client:
        yield client


def later(client: Client, who: str = "ada", model: str = "heart", **headers: str) -> httpx.Response:
    headers = {"Prefer": "respond-async", **headers}
    return client.post(f"/v2/models/{model}/infer", v2_request(), who, **headers)


def named(client: Client, row: dict[str, Any], **headers: str) -> httpx.Response:
    headers = {"Prefer": "respond-async", **headers}
    return client.post("/v1/models/heart/predictions", {"instances": [row]}, **headers)


def ended(client: Client, answer: httpx.Response, who: str = "ada") -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = client.get(answer.headers["location"], who).json()
        return seen if seen["state"] in ENDS else None

    assert answer.status_code == 202, answer.text
    return wait_for("the end of the task", look, PATIENCE)


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
def test_a_tasks_result_equals_the_synchronous_response(client: Client) -> None:
    synchronous = client.infer("heart")
    answer = later(client)
    assert answer.headers["preference-applied"] == "respond-async"
    assert (
        answer.json()["location"]
        == answer.headers["location"]
        == f"/v1/tasks/{answer.json()['taskId']}"
    )
    task = ended(client, answer)
    assert (task["state"], task["status"], task["attempts"], task["error"]) == (
        "succeeded",
        200,
        1,
        None,
    )
    assert task["result"] == synchronous.json()
    result = client.get(f"{answer.headers['location']}/result")
    assert (result.status_code, result.content) == (200, synchronous.content)
    for name in ("content-type", "slipway-model", "slipway-version", "slipway-digest"):
        assert result.headers[name] == synchronous.headers[name]
    receipt = client.get(f"/v1/predictions/{task['requestId']}").json()
    assert (receipt["caller"], receipt["decision"], receipt["protocol"], receipt["status"]) == (
        "user:ada",
        "predict:user",
        "v2",
        200,
    )


@pytest.mark.usefixtures("worker")
def test_gateway_and_worker_serve_a_model_of_a_later_release(
    client: Client, busy: Environment, worker: Workers
) -> None:
    busy.model("newer", ("3", 60), ("2", 40))  # the chance that 60 requests miss one is 5e-14
    skew.store(busy.cluster, "newer")
    routes = client.gateway.data.routes
    wait_for("the later model", lambda: len(routes.get("newer").model.status.conditions) == 2)
    assert {client.infer("newer").headers["slipway-version"] for _ in range(60)} == {"2", "3"}
    assert ended(client, later(client, model="newer"))["state"] == "succeeded"
    assert "invalid manifest" not in worker.log.read_text()


@pytest.mark.usefixtures("worker")
def test_named_features_can_be_predicted_asynchronously(client: Client) -> None:
    synchronous = client.post("/v1/models/heart/predictions", {"instances": [ROW]}).json()
    task = ended(client, named(client, ROW))
    assert task["result"]["predictions"] == synchronous["predictions"]
    assert task["result"]["requestId"] == task["requestId"]


@pytest.mark.usefixtures("worker")
def test_an_input_that_the_model_rejects_fails_the_task_without_a_retry(client: Client) -> None:
    answer = client.post("/v2/models/heart/infer", v2_request(age=-1.0), Prefer="respond-async")
    task = ended(client, answer)
    assert (task["state"], task["status"], task["attempts"]) == ("failed", 422, 1)
    assert "below the minimum" in task["error"]


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "text"),
    [
        ("/v2/models/unknown/infer", {}, {}, 404, "unknown"),
        ("/v2/models/heart/versions/9/infer", {}, {}, 404, "version 9"),
        (
            "/v1/models/heart/predictions",
            {"instances": [{**ROW, "age": -5}]},
            {},
            422,
            "age: -5 is below",
        ),
        ("/v1/models/heart/predictions", {"rows": []}, {}, 422, "instances"),
        ("/v2/models/heart/infer", b"x" * (2**20 + 1), {}, 413, "larger"),
        ("/v2/models/heart/infer", {}, {"content-type": "text/csv"}, 415, "application/json"),
        ("/v2/models/heart/infer", b"", {"content-type": "multipart/form-data"}, 415, "json"),
        ("/v1/models/heart/predictions", b"", {"content-type": "text/csv"}, 415, "form-data"),
        ("/v2/models/heart/infer", {}, {"Idempotency-Key": "a b"}, 422, "Idempotency-Key"),
        ("/v2/models/heart/infer", {}, {"Slipway-Priority": "urgent"}, 422, "low, normal, high"),
        ("/v2/models/heart/infer", {}, {"Slipway-Priority": "high"}, 403, "high exceeds normal"),
    ],
)
def test_an_invalid_request_is_rejected_immediately(
    client: Client, path: str, content: Any, headers: dict[str, str], status: int, text: str
) -> None:
    answer = client.post(path, content, Prefer="respond-async", **headers)
    assert answer.status_code == status, answer.text
    assert text in answer.text


@pytest.mark.parametrize("prefer", ["wait=10", "return=minimal", "not-respond-async"])
def test_other_preferences_are_ignored(client: Client, prefer: str) -> None:
    assert later(client, Prefer=prefer).status_code == 200


@pytest.mark.parametrize(
    "prefer", ["Respond-Async, wait=5", "wait=5,respond-async", "respond-async;x=1"]
)
def test_the_preference_can_be_combined_with_others(client: Client, prefer: str) -> None:
    answer = later(client, Prefer=prefer)
    assert answer.status_code == 202
    client.http.delete(answer.headers["location"], headers=client._headers("ada"))


@pytest.mark.usefixtures("worker")
def test_only_the_owner_and_admins_can_access_a_task(client: Client) -> None:
    answer = later(client)
    path = answer.headers["location"]
    ended(client, answer)
    headers = client._headers("bob")
    for each in (
        client.get(path, "bob"),
        client.get(f"{path}/result", "bob"),
        client.http.delete(path, headers=headers),
    ):
        assert each.status_code == 404
    assert client.get("/v1/tasks/nothing").status_code == 404
    assert client.get("/v1/tasks", "bob").json() == {"tasks": []}
    assert client.get(path, "root").json()["caller"] == "user:ada"
    assert client.get("/v1/tasks?all=true", "bob").status_code == 403
    tasks = client.get("/v1/tasks?all=true&state=succeeded", "root").json()["tasks"]
    assert answer.json()["taskId"] in {each["taskId"] for each in tasks}
    assert client.post(f"{path}/replay", {}, "ada").status_code == 403
    assert client.post(f"{path}/replay", {}, "root").status_code == 409, "it is not dead"


@pytest.mark.usefixtures("worker")
def test_an_idempotency_key_identifies_a_task(client: Client) -> None:
    def accepted(_: int) -> httpx.Response:
        """Retry 503, which a busy pool of connections returns."""

        def look() -> httpx.Response | None:
            answer = later(client, Idempotency_Key="once")
            return None if answer.status_code == 503 else answer

        return wait_for("an answer other than 503", look)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(accepted, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["taskId"] for answer in answers}) == 1
    other = named(client, ROW, Idempotency_Key="once")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert (
        later(client, "bob", Idempotency_Key="once").json()["taskId"] != answers[0].json()["taskId"]
    )
    task = ended(client, answers[0])
    assert client.environment.count(f"request_id = '{task['requestId']}'") == 1


@pytest.mark.usefixtures("worker")
def test_a_task_is_retried_until_it_is_dead_and_can_be_replayed_by_an_admin(
    client: Client, busy: Environment
) -> None:
    answer = later(client, model="asleep")
    task = ended(client, answer)
    assert (task["state"], task["status"], task["attempts"]) == ("dead", 503, 3)
    assert "asleep is not ready" in task["error"]
    dead = client.get("/v1/tasks?state=dead&all=true", "root").json()["tasks"]
    assert [each["taskId"] for each in dead] == [task["taskId"]]
    busy.model("asleep", ("1", 100))

    def replayed() -> dict[str, Any] | None:
        """Replay the task, which is dead again if the worker has not read the model yet."""
        path = f"{answer.headers['location']}/replay"
        assert client.post(path, {}, "root").status_code == 202
        seen = ended(client, answer)
        return seen if seen["state"] != "dead" else None

    again = wait_for("the model at the worker", replayed, PATIENCE)
    assert (again["state"], again["requestId"] != task["requestId"]) == ("succeeded", True)
    assert again["attempts"] <= 2, "attempts start at 0"
    assert busy.count(f"request_id = '{again['requestId']}' AND status = 200") == 1


@pytest.mark.slow
def test_a_cancelled_task_gets_no_result(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=own_predictor.url)
    own_predictor.hold()
    with environment.gateway() as client:
        waiting, running = later(client), later(client)
        headers = client._headers("ada")
        assert (
            client.http.delete(waiting.headers["location"], headers=headers).json()["state"]
            == "cancelled"
        )
        assert client.get(f"{waiting.headers['location']}/result").status_code == 409
        with Workers(environment):
            wait_for("the attempt", lambda: own_predictor.asked, PATIENCE)
            assert (
                client.http.delete(running.headers["location"], headers=headers).status_code == 200
            )
            own_predictor.release()
            assert ended(client, later(client))["state"] == "succeeded"
            wait_for("the end of the attempt", lambda: _jobs(environment) == 0)
        assert client.http.delete(running.headers["location"], headers=headers).status_code == 409
        states = Counter(each["state"] for each in client.get("/v1/tasks").json()["tasks"])
    assert states == {"cancelled": 2, "succeeded": 1}
    assert environment.count() == 1
    assert own_predictor.asked == ["heart-3", "heart-3"], (
        "the first one was cancelled before a worker claimed it"
    )


@pytest.mark.slow
def test_tasks_run_by_the_policys_priority_and_a_caller_can_lower_it(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=own_predictor.url)
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name, priority) VALUES ('urgent', 'high')")
        connection.execute(
            "INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('x', "
            "'user:root', 'heart', 'urgent')"
        )
    with environment.gateway() as client:
        asked = [
            ("low", "root", later(client, "root", Slipway_Priority="low")),
            ("normal", "ada", later(client)),
        ]
        asked += [
            ("high", "root", later(client, "root")),
            ("low", "ada", later(client, Slipway_Priority="low")),
        ]
        with Workers(environment, task_concurrency=1):
            done = [
                (ended(client, answer, who)["finished"], priority)
                for priority, who, answer in asked
            ]
    assert [priority for _, priority in sorted(done)] == ["high", "normal", "low", "low"]


@pytest.mark.slow
def test_a_task_is_dead_when_the_database_rejects_its_event(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("lung", ("1", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("ALTER TABLE prediction_events ADD CHECK (model <> 'heart')")
    with environment.gateway() as client, Workers(environment):
        refused, good = later(client), later(client, model="lung")
        assert ended(client, refused)["state"] == "dead"
        assert ended(client, good)["state"] == "succeeded"
        wait_for("an empty queue", lambda: _jobs(environment) == 0)
    assert environment.count() == 1


@pytest.mark.slow
def test_a_task_with_a_priority_of_a_later_release_is_requeued_and_executed(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with environment.gateway() as client:
        answers = [later(client) for _ in range(2)]
        with psycopg.connect(environment.database_url) as connection:
            connection.execute("ALTER TABLE tasks DROP CONSTRAINT tasks_priority")
            connection.execute("UPDATE tasks SET due = now() - interval '1 hour'")
            task_id = answers[0].json()["taskId"]
            connection.execute(
                "UPDATE tasks SET priority = 'of a later release' WHERE task_id = %s", [task_id]
            )
            connection.execute("DELETE FROM procrastinate_jobs")  # only the sweep finds the tasks
        with Workers(environment):
            assert [ended(client, answer)["state"] for answer in answers] == ["succeeded"] * 2


def test_the_number_of_unfinished_tasks_per_caller_is_limited(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with environment.gateway(tasks_per_caller=2) as client:
        assert [later(client).status_code for _ in range(3)] == [202, 202, 429]
        assert "retry-after" in later(client).headers
        assert later(client, "bob").status_code == 202


@pytest.mark.slow
def test_workers_that_are_killed_repeatedly_finish_each_of_100_tasks_exactly_once(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100), url=own_predictor.url)
    workers = Workers(environment, 2, task_concurrency=4, upstream_timeout_seconds=PATIENCE)
    with environment.gateway() as client:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: later(client), range(100)))
        assert {answer.status_code for answer in answers} == {202}
        for share in (15, 40, 70):
            own_predictor.hold(after=share - _count(environment, SUCCEEDED))
            with workers:
                _wait_for_answers(environment, share)
                wait_for("a running attempt", lambda: own_predictor.held, PATIENCE)
            assert _count(environment, SUCCEEDED) < 100
        own_predictor.release()
        with workers:
            _wait_for_answers(environment, 100)
            wait_for("an empty queue", lambda: _jobs(environment) == 0)
            assert workers.stop() == [0, 0]
    assert len(own_predictor.asked) > 100, "no attempt was running when the workers were killed"
    with psycopg.connect(environment.database_url) as connection:
        tasks = connection.execute("SELECT task_id, request_id, attempts FROM tasks").fetchall()
        events = [row[0] for row in connection.execute("SELECT request_id FROM prediction_events")]
    assert {task_id for task_id, _, _ in tasks} == {answer.json()["taskId"] for answer in answers}
    assert sorted(events) == sorted(request_id for _, request_id, _ in tasks)
    assert {attempts for _, _, attempts in tasks} == {1}, (
        "the kill of a worker is not a failed attempt"
    )


@pytest.mark.slow
def test_a_task_is_charged_to_the_quota_once_when_it_is_accepted(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name, requests_per_day) VALUES ('few', 3)")
        connection.execute(
            "INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('x', 'user:ada', "
            "'heart', 'few')"
        )
    with environment.gateway() as client:
        answers = [later(client, Idempotency_Key=key) for key in ("a", "a", "b", "b", "c")]
        assert [answer.status_code for answer in answers] == [202] * 5
        assert later(client).status_code == 429
        with Workers(environment):
            for answer in answers:
                assert ended(client, answer)["state"] == "succeeded"
    with psycopg.connect(environment.database_url) as connection:
        assert connection.execute("SELECT policy, requests FROM usage").fetchall() == [("few", 3)]


@pytest.mark.slow
def test_expired_tasks_are_deleted(new_environment: Callable[[], Environment]) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with (
        environment.gateway(task_keep_seconds=0.5) as client,
        Workers(environment, task_keep_seconds=0.5),
    ):
        path = later(client).headers["location"]
        wait_for("the end of its time", lambda: client.get(path).status_code == 404, PATIENCE)
    assert environment.count() == 1, "the event stays in the log"


@pytest.mark.slow
def test_a_webhook_is_signed_and_retried_and_redirects_are_not_followed(
    client: Client, worker: Workers
) -> None:
    with Receiver() as receiver:
        receiver.statuses = [302, 500]
        made = client.post("/v1/webhooks", {"url": f"{receiver.server.url}/done"}, "carol")
        assert made.status_code == 201
        begin = int(time.time())
        task = ended(client, later(client, "carol"), "carol")
        wait_for("three deliveries", lambda: len(receiver.taken) == 3)
        wait_for(
            "the record of the delivery",
            lambda: client.get("/v1/webhooks", "carol").json()["webhooks"][0]["delivered"],
        )
        (listed,) = client.get("/v1/webhooks", "carol").json()["webhooks"]
        headers, body = receiver.taken[0]
        assert len({(each["webhook-id"], content) for each, content in receiver.taken}) == 1
        assert all(is_signed(made.json()["secret"], *each) for each in receiver.taken)
        assert not is_signed(made.json()["secret"], headers, body + b" ")
        assert begin <= int(headers["webhook-timestamp"]) <= time.time()
        assert b'"type":"task.succeeded"' in body
        assert task["taskId"].encode() in body
        assert "secret" not in listed
        assert (listed["problem"], listed["failed"] < listed["delivered"]) == (
            "127.0.0.1 answered 500",
            True,
        )
        path = f"/v1/webhooks/{made.json()['webhookId']}"
        assert client.http.delete(path, headers=client._headers("bob")).status_code == 404
        assert client.http.delete(path, headers=client._headers("carol")).status_code == 204
        assert client.get("/v1/webhooks", "carol").json() == {"webhooks": []}
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
def test_a_webhook_with_a_private_address_is_rejected(client: Client, url: str, text: str) -> None:
    answer = client.post("/v1/webhooks", {"url": url})
    assert answer.status_code == 422
    assert text in answer.json()["errors"][0]["problem"]


@pytest.mark.slow
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
def test_public_addresses_are_recognized(address: str, public: bool) -> None:
    assert is_public(address) is public


def _wait_for_answers(environment: Environment, count: int) -> None:
    wait_for(f"{count} answers", lambda: _count(environment, SUCCEEDED) >= count, PATIENCE)


def _count(environment: Environment, where: str) -> int:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(f"SELECT count(*) FROM tasks WHERE {where}").fetchone()  # noqa: S608  # type: ignore[arg-type]
    assert row
    return int(row[0])


def _jobs(environment: Environment) -> int:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
    assert row
    return int(row[0])
