"""What callers store in PostgreSQL has a budget: of one caller, and of all."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.postgresql.database import Database

from tests.gateway.environment import House, Visitor
from tests.gateway.predictor import ROW
from tests.gateway.test_batches import CSV, TEMPLATE, upload

KIB = 2**10
COUNTED = """
SELECT subject, sum(bytes)::bigint FROM (
    SELECT subject, 256 + octet_length(body) + coalesce(octet_length(answer), 0)
        + pg_column_size(caller) + pg_column_size(headers) AS bytes FROM tasks
    UNION ALL SELECT subject, 256 + coalesce(octet_length(comment), 0) + coalesce(pg_column_size(label), 0) FROM feedback
    UNION ALL SELECT subject, 256 + octet_length(content) FROM pictures
    UNION ALL SELECT subject, 256 FROM prediction_pictures
    UNION ALL SELECT subject, 256 FROM batches
    UNION ALL SELECT subject, 256 + octet_length(content) FROM batch_files JOIN batches USING (batch_id)
) AS counted GROUP BY subject ORDER BY subject
"""
"""The bytes of each caller, counted from the tables."""


@pytest.fixture
def store(new_house: Callable[[], House]) -> House:
    house = new_house()
    house.model("heart", ("3", 100))
    house.cluster.apply(TEMPLATE)
    return house


def rows(house: House, statement: str) -> list[Any]:
    with psycopg.connect(house.database_url) as connection:
        return connection.execute(statement).fetchall()


def predicted(visitor: Visitor, who: str) -> str:
    answer = visitor.post("/v1/models/heart/predictions", {"instances": [ROW]}, who)
    assert answer.status_code == 200, answer.text
    return f"/v1/predictions/{answer.json()['requestId']}/feedback"


def task(visitor: Visitor, who: str) -> int:
    return visitor.post("/v1/models/heart/predictions", {"instances": [ROW] * 200}, who, Prefer="respond-async").status_code


def comment(visitor: Visitor, path: str, who: str) -> int:
    return visitor.post(path, {"comment": "x" * 2000}, who).status_code


def test_each_way_to_store_ends_at_the_budget_of_the_caller_and_others_go_on(store: House) -> None:
    with store.gateway(storage_per_caller=64 * KIB) as visitor:
        paths = {who: predicted(visitor, who) for who in ("ada", "bob")}
        file = CSV + b"z" * 40 * KIB
        first = upload(visitor, file)
        assert first.status_code == 202
        refused = upload(visitor, file)
        assert (refused.status_code, "65536 are allowed" in refused.text, "retry-after" in refused.headers) == (429, True, True)
        assert 429 in [comment(visitor, paths["ada"], "ada") for _ in range(20)]
        assert task(visitor, "ada") == 429
        assert rows(store, "SELECT count(*) FROM batches") == [(1,)], "what is refused is not stored"
        assert rows(store, "SELECT count(*) FROM tasks") == [(0,)]
        assert rows(store, "SELECT sum(bytes) <= 65536 FROM storage") == [(True,)]
        assert [upload(visitor, file, "bob").status_code, comment(visitor, paths["bob"], "bob"), task(visitor, "bob")] == [
            202,
            201,
            202,
        ]
        assert visitor.client.delete(first.headers["location"], headers=visitor._headers("ada")).status_code == 204
        assert comment(visitor, paths["ada"], "ada") == 201, "what is deleted counts no more"


def test_all_callers_together_end_at_a_budget_too(store: House) -> None:
    with store.gateway() as visitor:
        path = predicted(visitor, "bob")
        assert upload(visitor, CSV + b"z" * 70 * KIB).status_code == 202
    with store.gateway(storage_limit=60 * KIB) as visitor:
        answer = upload(visitor, CSV, "carol")
        assert (answer.status_code, "SLIPWAY_STORAGE_LIMIT" in answer.text) == (507, True)
        assert (comment(visitor, path, "bob"), task(visitor, "bob")) == (507, 507)
        assert visitor.get("/v1/batches").status_code == 200


def test_the_counters_equal_the_tables_whatever_is_stored_deleted_and_erased(store: House) -> None:
    with store.gateway() as visitor:
        for who in ("ada", "bob"):
            path = predicted(visitor, who)
            assert comment(visitor, path, who) == 201
            assert task(visitor, who) == 202
            assert upload(visitor, CSV * 300, who).status_code == 202
        location = upload(visitor, CSV).headers["location"]

        def counters() -> list[Any]:
            found = "SELECT subject, sum(bytes)::bigint FROM storage GROUP BY subject HAVING sum(bytes) <> 0 ORDER BY subject"
            return rows(store, found)

        assert counters() == rows(store, COUNTED) != []
        assert visitor.client.delete(location, headers=visitor._headers("ada")).status_code == 204
        assert counters() == rows(store, COUNTED)
    with psycopg.connect(store.database_url) as connection:
        connection.execute("UPDATE tasks SET answer = %s, state = 'succeeded'", [b"x" * 5000])
        connection.execute(
            "INSERT INTO pictures VALUES ('sha256:1', %s, now(), 'user:ada'), ('sha256:2', %s, now(), 'user:bob')", [b"x"] * 2
        )
        connection.execute(
            "INSERT INTO prediction_pictures VALUES "
            "('1', 1, 'user:ada', 'sha256:1', now()), ('1', 2, 'user:ada', 'sha256:2', now())"
        )
    assert counters() == rows(store, COUNTED)
    asyncio.run(leave(store, "user:ada"))
    assert counters() == rows(store, COUNTED)
    assert rows(store, "SELECT count(*) FROM storage WHERE subject = 'user:ada'") == [(0,)]
    assert rows(store, "SELECT kind FROM storage WHERE subject LIKE 'departed-%' ORDER BY kind") == [("feedback",), ("pictures",)]


async def leave(house: House, subject: str) -> None:
    database = Database(house.database_url)
    async with database.transaction() as connection:
        await erase(connection, subject)
    await database.close()


def test_a_caller_gives_so_many_labels_a_minute(store: House) -> None:
    with store.gateway(feedback_per_minute=3) as visitor:
        path = predicted(visitor, "ada")
        answers = [visitor.post(path, {"label": 1}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
        assert answers[3].headers["ratelimit-policy"] == '"feedback";q=3;w=60'
        assert visitor.get(path).status_code == 200, "reading is not labelling"


def test_a_caller_has_so_many_jobs_under_way(store: House) -> None:
    with store.gateway(jobs_per_caller=2) as visitor:
        keyed, plain = upload(visitor, CSV, key="k"), upload(visitor, CSV)
        assert [keyed.status_code, plain.status_code] == [202, 202]
        for key in (None, "other"):
            refused = upload(visitor, CSV, key=key)
            assert (refused.status_code, "2 Jobs under way" in refused.text, "retry-after" in refused.headers) == (
                429,
                True,
                True,
            )
        assert rows(store, "SELECT count(*) FROM batches") == [(2,)], "what is refused is not stored"
        assert upload(visitor, CSV, key="k").json()["batchId"] == keyed.json()["batchId"], "a repetition begins nothing"
        assert upload(visitor, CSV, "bob").status_code == 202
        assert visitor.client.delete(plain.headers["location"], headers=visitor._headers("ada")).status_code == 204
        assert upload(visitor, CSV).status_code == 202
