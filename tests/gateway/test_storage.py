"""The storage budget in PostgreSQL, per caller and in total."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.postgresql.database import Database

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW
from tests.gateway.test_batches import CSV, TEMPLATE, upload

KIB = 2**10
COUNTED = """
SELECT subject, sum(bytes)::bigint FROM (
    SELECT subject, 256 + octet_length(body) + coalesce(octet_length(answer), 0)
        + pg_column_size(caller) + pg_column_size(headers) AS bytes FROM tasks
    UNION ALL
      SELECT subject, 256 + coalesce(octet_length(comment), 0) + coalesce(pg_column_size(label), 0)
        FROM feedback
    UNION ALL SELECT subject, 256 + octet_length(content) FROM images
    UNION ALL SELECT subject, 256 FROM prediction_images
    UNION ALL SELECT subject, 256 FROM batches
    UNION ALL SELECT subject, 256 + octet_length(content) FROM batch_files JOIN batches
      USING (batch_id)
) AS counted GROUP BY subject ORDER BY subject
"""
"""Bytes of each caller, calculated from the tables."""


@pytest.fixture
def store(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.cluster.apply(TEMPLATE)
    return environment


def rows(environment: Environment, statement: str) -> list[Any]:
    with psycopg.connect(environment.database_url) as connection:
        return connection.execute(statement).fetchall()


def predicted(client: Client, who: str) -> str:
    answer = client.post("/v1/models/heart/predictions", {"instances": [ROW]}, who)
    assert answer.status_code == 200, answer.text
    return f"/v1/predictions/{answer.json()['requestId']}/feedback"


def task(client: Client, who: str) -> int:
    return client.post(
        "/v1/models/heart/predictions", {"instances": [ROW] * 200}, who, Prefer="respond-async"
    ).status_code


def comment(client: Client, path: str, who: str) -> int:
    return client.post(path, {"comment": "x" * 2000}, who).status_code


def test_every_stored_object_counts_against_the_budget_of_its_caller_only(
    store: Environment,
) -> None:
    with store.gateway(storage_per_caller=64 * KIB) as client:
        paths = {who: predicted(client, who) for who in ("ada", "bob")}
        file = CSV + b"z" * 40 * KIB
        first = upload(client, file)
        assert first.status_code == 202
        refused = upload(client, file)
        assert (
            refused.status_code,
            "65536 are allowed" in refused.text,
            "retry-after" in refused.headers,
        ) == (429, True, True)
        assert 429 in [comment(client, paths["ada"], "ada") for _ in range(20)]
        assert task(client, "ada") == 429
        assert rows(store, "SELECT count(*) FROM batches") == [(1,)], (
            "a rejected object is not stored"
        )
        assert rows(store, "SELECT count(*) FROM tasks") == [(0,)]
        assert rows(store, "SELECT sum(bytes) <= 65536 FROM storage") == [(True,)]
        assert [
            upload(client, file, "bob").status_code,
            comment(client, paths["bob"], "bob"),
            task(client, "bob"),
        ] == [202, 201, 202]
        assert (
            client.http.delete(
                first.headers["location"], headers=client._headers("ada")
            ).status_code
            == 204
        )
        assert comment(client, paths["ada"], "ada") == 201, "deleted objects do not count"


def test_all_callers_together_have_a_budget(store: Environment) -> None:
    with store.gateway() as client:
        path = predicted(client, "bob")
        assert upload(client, CSV + b"z" * 70 * KIB).status_code == 202
    with store.gateway(storage_limit=60 * KIB) as client:
        answer = upload(client, CSV, "carol")
        assert (answer.status_code, "SLIPWAY_STORAGE_LIMIT" in answer.text) == (507, True)
        assert (comment(client, path, "bob"), task(client, "bob")) == (507, 507)
        assert client.get("/v1/batches").status_code == 200


def test_the_counters_equal_the_tables_after_inserts_deletes_and_erasure(
    store: Environment,
) -> None:
    with store.gateway() as client:
        for who in ("ada", "bob"):
            path = predicted(client, who)
            assert comment(client, path, who) == 201
            assert task(client, who) == 202
            assert upload(client, CSV * 300, who).status_code == 202
        location = upload(client, CSV).headers["location"]

        def counters() -> list[Any]:
            found = (
                "SELECT subject, sum(bytes)::bigint FROM storage GROUP BY subject HAVING "
                "sum(bytes) <> 0 ORDER BY subject"
            )
            return rows(store, found)

        assert counters() == rows(store, COUNTED) != []
        assert client.http.delete(location, headers=client._headers("ada")).status_code == 204
        assert counters() == rows(store, COUNTED)
    with psycopg.connect(store.database_url) as connection:
        connection.execute("UPDATE tasks SET answer = %s, state = 'succeeded'", [b"x" * 5000])
        connection.execute(
            (
                "INSERT INTO images VALUES ('sha256:1', %s, now(), 'user:ada'), ('sha256:2', "
                "%s, now(), 'user:bob')"
            ),
            [b"x"] * 2,
        )
        connection.execute(
            "INSERT INTO prediction_images VALUES "
            "('1', 1, 'user:ada', 'sha256:1', now()), ('1', 2, 'user:ada', 'sha256:2', now())"
        )
    assert counters() == rows(store, COUNTED)
    asyncio.run(leave(store, "user:ada"))
    assert counters() == rows(store, COUNTED)
    assert rows(store, "SELECT count(*) FROM storage WHERE subject = 'user:ada'") == [(0,)]
    assert rows(store, "SELECT kind FROM storage WHERE subject LIKE 'erased-%' ORDER BY kind") == [
        ("feedback",),
        ("images",),
    ]


async def leave(environment: Environment, subject: str) -> None:
    database = Database(environment.database_url)
    async with database.transaction() as connection:
        await erase(connection, subject)
    await database.close()


def test_feedback_has_a_rate_limit(store: Environment) -> None:
    with store.gateway(feedback_per_minute=3) as client:
        path = predicted(client, "ada")
        answers = [client.post(path, {"label": 1}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        assert answers[3].headers["ratelimit-policy"] == '"feedback";q=3;w=60'
        assert client.get(path).status_code == 200, "reading has another limit"


def test_the_number_of_running_jobs_per_caller_is_limited(store: Environment) -> None:
    with store.gateway(jobs_per_caller=2) as client:
        keyed, plain = upload(client, CSV, key="k"), upload(client, CSV)
        assert [keyed.status_code, plain.status_code] == [202, 202]
        for key in (None, "other"):
            refused = upload(client, CSV, key=key)
            assert (
                refused.status_code,
                "2 running Jobs" in refused.text,
                "retry-after" in refused.headers,
            ) == (429, True, True)
        assert rows(store, "SELECT count(*) FROM batches") == [(2,)], (
            "a rejected object is not stored"
        )
        assert upload(client, CSV, key="k").json()["batchId"] == keyed.json()["batchId"], (
            "a repetition starts nothing"
        )
        assert upload(client, CSV, "bob").status_code == 202
        assert (
            client.http.delete(
                plain.headers["location"], headers=client._headers("ada")
            ).status_code
            == 204
        )
        assert upload(client, CSV).status_code == 202
