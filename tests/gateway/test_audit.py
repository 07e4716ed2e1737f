"""The audit of changes, and the request id in the logs of every process."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from slipway_cluster.interface import CRON_JOB
from slipway_contract.labels import PARAMETERS
from slipway_contract.log import JsonLines

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.issuer import Issuer
from tests.gateway.test_batches import TEMPLATE, upload
from tests.gateway.test_trainings import SCHEMA, TRAIN, declare, template
from tests.gateway.workers import Workers
from tests.support.waiting import wait_for

PATIENCE = 300.0
"""Timeout in seconds, which includes the start of a worker process."""


@pytest.fixture(scope="module")
def works(new_environment: Callable[[], Environment]) -> Environment:
    """Provide a gateway whose Jobs are created and stay pending."""
    environment = new_environment()
    environment.cluster.apply(
        template("train-heart", TRAIN, **{PARAMETERS: orjson.dumps(SCHEMA).decode()})
    )
    environment.cluster.apply(template("promote", TRAIN))
    environment.cluster.apply(TEMPLATE)
    declare(environment, "heart", {"template": "train-heart"})
    return environment


@pytest.fixture(scope="module")
def client(works: Environment) -> Iterator[Client]:
    with works.gateway() as client:
        yield client


def entries(client: Client) -> list[tuple[str, str, str]]:
    """Return action, thing and subject of all entries, oldest first."""
    found = client.get("/v1/audit?limit=1000", "root").json()["entries"]
    return [(each["action"], each["thing"], each["subject"]) for each in reversed(found)]


def test_trainings_promotions_batches_and_cancels_are_in_the_audit_once(
    client: Client, issuer: Issuer
) -> None:
    marie = issuer.token("marie", "scientist")
    first = client.post(
        "/v1/models/heart/trainings",
        {"parameters": {"seed": 7}},
        marie,
        **{"Idempotency-Key": "one"},
    )
    again = client.post(
        "/v1/models/heart/trainings",
        {"parameters": {"seed": 7}},
        marie,
        **{"Idempotency-Key": "one"},
    )
    assert first.headers["location"] == again.headers["location"]
    refused = client.post("/v1/models/heart/trainings", {"parameters": {"seed": -7}}, marie)
    assert refused.status_code == 422
    promotion = client.post("/v1/models/heart/promotions", {"version": "3"}, marie)
    cancelled = client.http.delete(first.headers["location"], headers=client._headers(marie))
    assert cancelled.status_code == 204
    assert (
        client.http.delete(first.headers["location"], headers=client._headers(marie)).status_code
        == 404
    )
    batch = upload(client, b"age,chol,thal\r\n63,233,6\r\n", key="one")
    assert (
        upload(client, b"age,chol,thal\r\n63,233,6\r\n", key="one").headers["location"]
        == batch.headers["location"]
    )
    assert (
        client.http.delete(batch.headers["location"], headers=client._headers("ada")).status_code
        == 204
    )
    task = client.post("/v2/models/heart/infer", v2_request(), Prefer="respond-async")
    for status in (200, 409):
        assert (
            client.http.delete(task.headers["location"], headers=client._headers("ada")).status_code
            == status
        )

    def path(answer: Any) -> str:
        return str(answer.headers["location"]).removeprefix("/v1/")

    assert entries(client) == [
        ("training.create", path(first), "user:marie"),
        ("promotion.create", path(promotion), "user:marie"),
        ("training.cancel", path(first), "user:marie"),
        ("batch.create", path(batch), "user:ada"),
        ("batch.delete", path(batch), "user:ada"),
        ("task.cancel", path(task), "user:ada"),
    ]
    entry = client.get("/v1/audit?limit=1000", "root").json()["entries"][-1]
    assert (entry["requestId"], entry["detail"]) == (
        first.headers["x-request-id"],
        {"parameters": {"seed": 7}},
    )


def test_a_job_that_cannot_be_created_is_not_in_the_audit(
    client: Client, works: Environment, issuer: Issuer
) -> None:
    before, marie = entries(client), issuer.token("marie", "scientist")
    works.cluster.delete(CRON_JOB, "promote")
    assert client.post("/v1/models/heart/promotions", {"version": "3"}, marie).status_code == 404
    assert entries(client) == before


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Provide the log of the gateway in this process, in the format of a deployment."""
    path, root = tmp_path / "gateway.log", logging.getLogger()
    handler, level = logging.FileHandler(path), root.level
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield path
    root.setLevel(level)
    root.removeHandler(handler)
    handler.close()


def lines(log: Path, request_id: str) -> list[str]:
    """Return the messages of a log with this request id."""
    found = [json.loads(line) for line in log.read_text().splitlines()]
    ours = [each for each in found if each["logger"].startswith("slipway")]
    return [each["message"] for each in ours if each.get("requestId") == request_id]


def test_one_id_is_in_the_logs_of_gateway_and_worker_and_goes_to_the_predictor(
    own_environment: Environment, log: Path
) -> None:
    predictor = own_environment.predictor
    with own_environment.gateway() as client, Workers(own_environment) as workers:
        synchronous = client.infer("heart").headers["x-request-id"]
        assert predictor.headers[b"x-request-id"] == synchronous.encode()
        (line,) = lines(log, synchronous)
        assert re.fullmatch(r"model heart version 3 answered 200 in [0-9.]+ ms", line)
        deferred = client.post(
            "/v2/models/heart/infer", v2_request(), Prefer="respond-async"
        ).headers["x-request-id"]
        assert lines(log, deferred) == [f"task {deferred} of model heart is queued"]
        wait_for("the worker's lines", lambda: len(lines(workers.log, deferred)) == 2, PATIENCE)
        assert predictor.headers[b"x-request-id"] == deferred.encode()
        answered, attempt = lines(workers.log, deferred)
        assert answered.startswith("model heart version 3 answered 200")
        assert attempt == f"task {deferred} of model heart, attempt 1: status 200"
