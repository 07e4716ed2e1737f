"""Quotas: exact over replicas, equal to the event log, and bounded without the database."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from slipway_gateway.errors import TooMany
from slipway_gateway.limits.ledger import LARGEST, Ledger
from slipway_gateway.limits.policy import Policy
from slipway_gateway.limits.quotas import LOW, Quotas
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment, Process
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import ROW, Predictor
from tests.support.postgresql import PostgresServer
from tests.support.waiting import avoid_midnight, wait_for


@pytest.fixture(autouse=True)
def one_day() -> None:
    """Run each test within one day, because its quota starts again at midnight."""
    avoid_midnight()


def limited(environment: Environment, **terms: int) -> None:
    """Apply the policy ``trial`` to all grants."""
    columns = "".join(f", {name}" for name in terms)
    values = "".join(f", {value}" for value in terms.values())
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(f"INSERT INTO policies (name{columns}) VALUES ('trial'{values})")  # noqa: S608
        connection.execute("UPDATE grants SET policy = 'trial'")


def query(environment: Environment, statement: str) -> Any:
    """Return the first column of the first row."""
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


def in_parallel(replicas: list[Client], calls: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(calls) as pool:
        return list(
            pool.map(lambda number: replicas[number % len(replicas)].infer("heart"), range(calls))
        )


@pytest.mark.slow
@pytest.mark.parametrize("period", ["day", "month"])
def test_exactly_3_of_50_parallel_calls_to_two_replicas_pass_when_3_are_left(
    own_environment: Environment, period: str
) -> None:
    limited(own_environment, **{f"requests_per_{period}": 10})
    with ExitStack() as stack:
        replicas = both(stack, own_environment)
        assert [replicas[0].infer("heart").status_code for _ in range(7)] == [200] * 7
        answers = in_parallel(replicas, 50)
        assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 47}
        (refused, *_) = [answer for answer in answers if answer.status_code == 429]
        assert refused.json() == {"error": f"your quota of 10 predictions a {period} is exhausted"}
        assert refused.headers["ratelimit-policy"].startswith(f'"{period}";q=10;w=')
        assert refused.headers["ratelimit"].startswith(f'"{period}";r=0;t=')
        assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86400
        assert replicas[1].infer("heart", "bob").status_code == 200, "each caller has a quota"
        wait_for("the ledger", lambda: used(own_environment) == 11)
    assert (own_environment.count(), held(own_environment)) == (11, 0)


@pytest.mark.slow
def test_two_replicas_use_the_whole_quota_and_no_more(
    own_environment: Environment,
) -> None:
    limited(own_environment, requests_per_day=300)
    with ExitStack() as stack:
        replicas = both(stack, own_environment)
        passed = [
            answer
            for _ in range(8)
            for answer in in_parallel(replicas, 50)
            if answer.status_code == 200
        ]
        # A replica returns its unused leases within seconds; then the other one gets them.
        wait_for(
            "the last ones",
            lambda: len(passed) == 300 or _append_if_200(passed, replicas[0].infer("heart")),
        )
        assert replicas[0].infer("heart").status_code == 429
    counts = (len(passed), used(own_environment), own_environment.count(), held(own_environment))
    assert counts == (300, 300, 300, 0)


def _append_if_200(passed: list[httpx.Response], answer: httpx.Response) -> bool:
    if answer.status_code == 200:
        passed.append(answer)
    return len(passed) == 300


@pytest.mark.slow
def test_a_quota_needs_no_statement_per_call(own_environment: Environment) -> None:
    limited(own_environment, requests_per_day=10_000)
    with own_environment.gateway() as client:
        for _ in range(100):
            assert client.infer("heart").status_code == 200
        assert query(own_environment, "SELECT count(*) FROM quota_leases") == 1


def test_client_errors_of_the_model_count_and_server_errors_do_not(
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


def test_callers_see_their_own_usage_and_admins_all(own_environment: Environment) -> None:
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


def test_the_caller_sees_its_grants_and_what_is_left(own_environment: Environment) -> None:
    limited(own_environment, requests_per_day=3, requests_per_month=10)
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute(
            "INSERT INTO grants (grant_id, grantee, models, policy, expires) VALUES "
            "('1', 'user:ada', 'heart', 'trial', '2999-01-01Z'), "
            "('2', 'user:ada', 'past', 'trial', '2020-01-01Z')"
        )
        connection.execute(
            "INSERT INTO usage VALUES ('user:ada', 'trial', '2020-01-01', 100), "
            "('user:bob', 'trial', now(), 2), ('user:ada', 'other', now(), 2)"
        )
    avoid_midnight()
    with own_environment.gateway() as client:
        assert [client.infer("heart").status_code for _ in range(2)] == [200] * 2
        me = client.get("/v1/me").json()
        assert me["grants"] == [
            {"models": "heart", "policy": "trial", "expires": "2999-01-01T00:00:00Z"},
            {"models": "*", "policy": "trial", "expires": None},
        ]
        limits = [list(each.values())[:5] for each in me["limits"]]
        assert limits == [["trial", "day", 3, 2, 1], ["trial", "month", 10, 2, 8]]
        day, month = (datetime.fromisoformat(each["resetAt"]) for each in me["limits"])
        assert day.date() == datetime.now(UTC).date() + timedelta(days=1)
        assert (month.day, month.hour, month > datetime.now(UTC)) == (1, 0, True)
        other = client.get("/v1/me", own_environment.issuer.token("eve", "guests")).json()
        assert (other["grants"], other["limits"]) == ([], [])


def test_the_caller_is_described_without_its_quotas_while_the_database_is_away(
    own_environment: Environment,
) -> None:
    limited(own_environment, requests_per_day=3)
    with own_environment.gateway() as client:
        assert client.get("/v1/me").json()["limits"][0]["remaining"] == 3
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("ALTER TABLE usage RENAME TO hidden")
        me = client.get("/v1/me").json()
    assert (me["subject"], me["limits"]) == ("user:ada", None)


@pytest.mark.slow
def test_a_killed_gateway_loses_at_most_its_leases_and_the_ledger_equals_the_log(
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
        if lost:  # the other leases may be returned soon
            assert int(refused.headers["retry-after"]) <= 6
    assert used(own_environment) == own_environment.count() == 100 - lost
    assert held(own_environment) == lost


@pytest.mark.slow
def test_without_the_database_only_the_current_lease_can_be_used(
    tmp_path: Any,
    own_postgres: PostgresServer,
    issuer: Issuer,
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The lease is not returned while PostgreSQL stops.
    monkeypatch.setattr("slipway_gateway.limits.quotas.IDLE_SECONDS", 600.0)
    migrate(own_postgres.get_uri())
    environment = Environment(tmp_path / "environment", own_postgres.get_uri(), issuer, predictor)
    environment.model("heart", ("3", 100))
    limited(environment, requests_per_day=50)
    with environment.gateway() as client:
        assert client.infer("heart").status_code == 200  # the first of a lease of five
        wait_for("the ledger", lambda: used(environment) == 1)
        own_postgres.stop()
        answers = [client.infer("heart") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [503] * 2
        assert answers[-1].headers["retry-after"] == "5"
        assert answers[-1].json() == {
            "error": "your quota cannot be read, PostgreSQL is unavailable; retry later"
        }
        own_postgres.start()
        wait_for("the return", lambda: client.infer("heart").status_code == 200)
    assert used(environment) == environment.count() == 6


def alone(
    environment: Environment, scenario: Callable[[Quotas], Coroutine[Any, Any, None]]
) -> None:
    """Run a scenario with the quotas of one gateway and explicit times."""

    async def main() -> None:
        database = Database(environment.database_url)
        quotas = Quotas(Ledger(database))
        await scenario(quotas)
        await quotas.close()
        await database.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        (Policy("trial", requests_per_day=1), 60),
        (Policy("trial", requests_per_month=1), 86400 + 60),
    ],
    ids=["day", "month"],
)
def test_a_period_starts_at_midnight_utc(
    own_environment: Environment, policy: Policy, seconds: int
) -> None:
    now = datetime(2030, 1, 30, 23, 59, tzinfo=UTC).timestamp()

    async def scenario(quotas: Quotas) -> None:
        (await quotas.take("ada", policy, now)).count()
        with pytest.raises(TooMany) as refused:
            await quotas.take("ada", policy, now + 2)
        assert dict(refused.value.headers)[b"ratelimit"].endswith(f"t={seconds - 1}".encode())
        with pytest.raises(TooMany):
            await quotas.take("ada", policy, now + seconds - 1)
        (await quotas.take("ada", policy, now + seconds)).count()

    alone(own_environment, scenario)


def test_unused_requests_are_returned(own_environment: Environment) -> None:
    policy, now = Policy("trial", requests_per_day=20), datetime.now(UTC).timestamp()

    async def scenario(quotas: Quotas) -> None:
        first = await quotas.take("ada", policy, now)
        second = await quotas.take("ada", policy, now)  # the last one of a lease of two
        third = await quotas.take("ada", policy, now)  # the first one of another lease
        assert first.lease_id == second.lease_id != third.lease_id
        second.count()
        for permit in (first, second, third, third):
            async with permit:
                pass

    alone(own_environment, scenario)
    assert held(own_environment) == 1  # the counted one, until its event is shipped


def test_the_next_lease_is_fetched_before_the_last_one_is_spent(
    own_environment: Environment,
) -> None:
    policy, now = Policy("trial", requests_per_day=1_000_000), datetime.now(UTC).timestamp()

    async def scenario(quotas: Quotas) -> None:
        for _ in range(LARGEST - LOW):
            (await quotas.take("ada", policy, now)).count()
        await asyncio.to_thread(
            wait_for, "the next lease", lambda: held(own_environment) == 2 * LARGEST
        )
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("ALTER TABLE quota_leases RENAME TO away")  # no further leases
        leases = Counter(
            [(await quotas.take("ada", policy, now)).lease_id for _ in range(LOW + LOW)]
        )
        assert sorted(leases.values()) == [LOW, LOW]
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("ALTER TABLE away RENAME TO quota_leases")

    alone(own_environment, scenario)


def test_a_prefetched_lease_is_returned_and_not_used_after_midnight(
    own_environment: Environment,
) -> None:
    policy = Policy("trial", requests_per_day=1_000_000)
    now = datetime(2030, 1, 30, 23, 59, tzinfo=UTC).timestamp()

    async def scenario(quotas: Quotas) -> None:
        for _ in range(LARGEST - LOW):
            await quotas.take("ada", policy, now)
        await asyncio.to_thread(
            wait_for, "the next lease", lambda: held(own_environment) == 2 * LARGEST
        )
        yesterdays = query(own_environment, "SELECT array_agg(lease_id) FROM quota_leases")
        assert len(yesterdays) == 2
        assert (await quotas.take("ada", policy, now + 60)).lease_id not in yesterdays

    alone(own_environment, scenario)
    assert held(own_environment) == LARGEST - LOW + 1  # taken and never settled


def test_new_policy_terms_apply_immediately(own_environment: Environment) -> None:
    now = datetime.now(UTC).timestamp()

    async def scenario(quotas: Quotas) -> None:
        (await quotas.take("ada", Policy("trial", requests_per_day=1000), now)).count()
        with pytest.raises(TooMany):
            await quotas.take("ada", Policy("trial", requests_per_day=1), now)
        (await quotas.take("ada", Policy("trial", requests_per_day=200), now)).count()

    alone(own_environment, scenario)
