"""Grants of models, and the time until a change takes effect."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import generate_latest
from slipway_gateway.access.grants import Grant, Grants
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.errors import Forbidden, Unavailable
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.limits.policy import Policy
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.support.postgresql import PostgresServer
from tests.support.waiting import until, wait_for

NEVER = float("inf")


def ada(*groups: str) -> Caller:
    grantees = ("user:ada", *(f"group:{group}" for group in groups))
    return Caller("ada", None, groups, frozenset({Role.USER}), NEVER, grantees)


def grant(grantee: str, models: str, policy: str = "default", expires: float = NEVER) -> Grant:
    return Grant(f"{grantee} {models}", grantee, models, Policy(policy), expires)


def test_a_model_without_a_grant_is_forbidden() -> None:
    with pytest.raises(Forbidden, match="model heart is not granted to you"):
        Grants().get(ada("user"), "heart", 0)
    with pytest.raises(Forbidden):
        Grants([grant("user:bob", "*"), grant("group:ada", "*"), grant("user:ada", "heart-*")]).get(
            ada("user"), "heart", 0
        )


@pytest.mark.parametrize(
    ("weaker", "stronger"),
    [
        (grant("group:user", "heart", "weak"), grant("user:ada", "*", "strong")),
        (grant("user:ada", "hear?", "weak"), grant("user:ada", "heart", "strong")),
        (grant("group:user", "*", "weak"), grant("group:user", "hea*", "strong")),
        (grant("user:ada", "heart", "weak", expires=99), grant("group:user", "*", "strong")),
    ],
    ids=[
        "a person's over a group's",
        "a name over a glob",
        "a longer glob over a shorter",
        "a valid one over an expired",
    ],
)
def test_the_more_specific_of_two_grants_applies(weaker: Grant, stronger: Grant) -> None:
    for both in ([weaker, stronger], [stronger, weaker]):
        assert Grants(both).get(ada("user"), "heart", 100).policy.name == "strong"


def test_a_cached_decision_expires_with_its_grant() -> None:
    grants = Grants([grant("user:ada", "heart", "trial", expires=100), grant("group:user", "*")])
    assert grants.get(ada("user"), "heart", 99).policy.name == "trial"
    assert grants.get(ada("user"), "heart", 100).policy.name == "default"


def test_the_cache_of_decisions_has_no_keys_of_callers() -> None:
    grants = Grants([grant("user:ada", "*"), grant("group:user", "*")])
    for number in range(100):
        assert grants.get(ada("user", f"group-{number}"), "heart", 0).policy.name == "default"
        assert (
            grants.get(ada("user"), f"invented-{number}", 0, exists=False).policy.name == "default"
        )
    assert list(grants._decisions) == [(("user:ada", "group:user"), "heart")]


def test_an_unknown_model_in_a_url_is_not_cached(client: Client) -> None:
    def decisions() -> set[str]:
        return {model for _, model in client.gateway.access.grants.snapshot._decisions}

    client.infer("heart")
    before = decisions()
    for number in range(3):
        assert client.get(f"/v2/models/invented-{number}").status_code == 404
        assert client.get(f"/v1/models/{'x' * 1000}-{number}").status_code == 404
    assert "heart" in before
    assert decisions() <= before


@pytest.fixture
def bare(new_environment: Callable[[], Environment]) -> Environment:
    """Provide an environment with two models and no grants."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("lung", ("1", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("DELETE FROM grants")
    return environment


@pytest.fixture
def replicas(bare: Environment) -> Iterator[list[Client]]:
    """Two gateways on one database, which read the grants again only when it notifies them."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                bare.gateway(spool=bare.folder / f"spool-{number}", watch_seconds=3600)
            )
            for number in range(2)
        ]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2/models/heart/infer"), ("GET", "/v1/models/heart/card"), ("GET", "/v1/audit")],
)
def test_denied_requests_count_against_the_rate_of_the_caller(
    bare: Environment, method: str, path: str
) -> None:
    with bare.gateway(requests_per_minute=2) as client:
        headers = {"Authorization": f"Bearer {bare.issuer.token('ada', 'user')}"}
        statuses = [
            client.http.request(method, path, headers=headers).status_code for _ in range(3)
        ]
    assert statuses == [403, 403, 429]


def give(client: Client, grantee: str, models: str, **terms: Any) -> str:
    answer = client.post(
        "/v1/grants", {"grantee": grantee, "models": models, "policy": "default", **terms}, "root"
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/grants/{answer.json()['grantId']}"
    return str(answer.json()["grantId"])


def wait_for_status(replicas: list[Client], status: int) -> None:
    """Wait until both gateways return this status."""
    for client in replicas:
        until(partial(client.infer, "heart"), lambda answer: answer.status_code == status)


def test_a_change_at_one_replica_takes_effect_at_both(
    replicas: list[Client],
) -> None:
    first, second = replicas
    assert [each.infer("heart").status_code for each in replicas] == [403, 403]
    grant_id = give(first, "user:ada", "heart")
    wait_for_status(replicas, 200)
    assert first.infer("heart", "bob").status_code == 403
    assert first.infer("lung").status_code == 403
    assert (
        second.http.delete(f"/v1/grants/{grant_id}", headers=second._headers("root")).status_code
        == 204
    )
    wait_for_status(replicas, 403)


def test_a_change_in_the_database_takes_effect_at_both(
    replicas: list[Client], bare: Environment
) -> None:
    with psycopg.connect(bare.database_url) as connection:
        connection.execute("INSERT INTO grants VALUES ('by-hand', 'group:user', 'h*', 'default')")
    wait_for_status(replicas, 200)
    with psycopg.connect(bare.database_url) as connection:
        connection.execute("UPDATE grants SET expires = now()")
    wait_for_status(replicas, 403)


def test_a_failed_connection_is_replaced_and_missed_changes_are_read(
    replicas: list[Client], bare: Environment
) -> None:
    with psycopg.connect(bare.database_url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'slipway-gateway grants' AND datname = current_database()"
        ).fetchone()
        assert cut == (2,)
        connection.execute("INSERT INTO grants VALUES ('missed', 'user:ada', 'heart', 'default')")
    for client in replicas:
        wait_for(
            "the grant to hold",
            lambda client=client: client.infer("heart").status_code == 200,  # type: ignore[misc]
        )


def test_a_model_without_a_grant_is_not_listed(bare: Environment) -> None:
    with bare.gateway() as client:
        give(client, "group:user", "lung")
        wait_for("the grant", lambda: client.infer("lung").status_code == 200)
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["lung"]
        for path in (
            "/v1/models/heart",
            "/v2/models/heart",
            "/v2/models/heart/ready",
            "/v2/models/heart/versions/3",
        ):
            assert client.get(path).status_code == 403, path
        there, not_there = client.get("/v2/models/heart"), client.get("/v2/models/liver")
        assert there.text.replace("heart", "liver") == not_there.text
        assert client.post("/v1/models/heart/predictions", {"instances": [{}]}).status_code == 403


def test_a_service_account_works_by_a_grant_to_its_client(
    bare: Environment, issuer: Issuer
) -> None:
    token = issuer.sign({**issuer.claims("nightly", client_id="nightly"), "groups": []})
    with bare.gateway() as client:
        assert client.get("/v1/me", token).json()["roles"] == ["service"]
        assert client.infer("heart", token).status_code == 403
        give(client, "user:nightly", "heart")  # a user with the same name is another caller
        give(
            client,
            "client:nightly",
            "heart",
            expires=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        )
        wait_for("the grant", lambda: client.infer("heart", token).status_code == 200)
        assert client.get("/v1/grants", token).status_code == 403


def test_each_change_of_policies_and_grants_is_in_the_audit(
    bare: Environment,
) -> None:
    with bare.gateway() as client:
        made = client.post(
            "/v1/policies", {"name": "trial", "requestsPerDay": 10, "priority": "low"}, "root"
        )
        assert (made.status_code, made.headers["location"]) == (201, "/v1/policies/trial")
        trial = {
            "name": "trial",
            "requestsPerDay": 10,
            "requestsPerMonth": None,
            "predictionsPerMinute": None,
            "priority": "low",
        }
        trial["cacheSeconds"] = None
        assert made.json() == client.get("/v1/policies/trial", "root").json() == trial
        grant_id = give(client, "user:ada", "heart", policy="trial")
        assert (
            change(client, "/v1/policies/trial", {"requestsPerMonth": 5}).json()["requestsPerMonth"]
            == 5
        )
        changed = change(
            client,
            f"/v1/grants/{grant_id}",
            {"grantee": "user:ada", "models": "l*", "policy": "default"},
        )
        assert changed.json() == client.get(f"/v1/grants/{grant_id}", "root").json()
        assert client.get("/v1/grants?grantee=user:ada", "root").json()["grants"] == [
            changed.json()
        ]
        assert client.get("/v1/grants?grantee=user:bob", "root").json()["grants"] == []
        for path in (f"/v1/grants/{grant_id}", "/v1/policies/trial"):
            assert delete(client, path).status_code == 204
            assert client.get(path, "root").status_code == delete(client, path).status_code == 404
        entries = client.get("/v1/audit?limit=5", "root").json()["entries"]
        older = client.get(f"/v1/audit?before={entries[-1]['number']}", "root").json()["entries"]
    story = [(entry["action"], entry["thing"]) for entry in [*entries, *older]]
    policy, given = "policies/trial", f"grants/{grant_id}"
    assert story == [
        ("policy.delete", policy),
        ("grant.delete", given),
        ("grant.replace", given),
        ("policy.replace", policy),
        ("grant.create", given),
        ("policy.create", policy),
    ]
    assert {entry["subject"] for entry in entries} == {"user:root"}
    assert older[-1]["detail"] == trial
    assert older[-1]["requestId"] == made.headers["x-request-id"]


def change(client: Client, path: str, content: Any) -> httpx.Response:
    return client.http.put(path, json=content, headers=client._headers("root"))


def delete(client: Client, path: str) -> httpx.Response:
    return client.http.delete(path, headers=client._headers("root"))


def test_an_invalid_change_is_rejected_and_not_in_the_audit(bare: Environment) -> None:
    with bare.gateway() as client:
        give(client, "user:ada", "heart")
        before = client.get("/v1/audit", "root").json()
        good = {"grantee": "user:ada", "models": "lung", "policy": "default"}
        for status, path, content in [
            (409, "/v1/grants", {**good, "models": "heart"}),  # it exists
            (409, "/v1/grants", {**good, "policy": "nonesuch"}),
            (409, "/v1/policies", {"name": "default"}),
            (422, "/v1/grants", {**good, "grantee": "ada"}),
            (422, "/v1/grants", {**good, "models": "../*"}),
            (422, "/v1/grants", {**good, "expires": "2030-01-01T00:00:00"}),  # without a time zone
            (422, "/v1/grants", {**good, "forever": True}),
            (422, "/v1/policies", {"name": "x", "requestsPerDay": -1}),
            (422, "/v1/policies", {"name": "x", "predictionsPerMinute": 0}),
        ]:
            assert client.post(path, content, "root").status_code == status, content
        assert delete(client, "/v1/policies/default").status_code == 409  # a grant refers to it
        assert client.get("/v1/audit", "root").json() == before


@pytest.mark.slow
def test_the_last_snapshot_remains_in_use_without_database(
    tmp_path: Any, own_postgres: PostgresServer, issuer: Issuer, predictor: Predictor
) -> None:
    migrate(own_postgres.get_uri())
    environment = Environment(tmp_path / "environment", own_postgres.get_uri(), issuer, predictor)
    environment.model("heart", ("3", 100))
    eve = issuer.token("eve", "clinicians")
    with environment.gateway() as client:
        assert [client.infer("heart", who).status_code for who in ("ada", eve)] == [200, 403]
        own_postgres.stop()
        wait_for("the loss to be noticed", lambda: client.gateway.access.grants.problem)
        assert [client.infer("heart", who).status_code for who in ("ada", eve)] == [200, 403]
        refused = client.post("/v1/policies", {"name": "trial"}, "root")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        with environment.gateway(ready=False, spool=tmp_path / "late") as late:
            wait_for("the others", lambda: late.get("/readyz", None).json()["identity"] == "ok")
            assert late.get("/readyz", None).json()["grants"] == "PostgreSQL has not responded yet"
            assert late.infer("heart").status_code == 503
            own_postgres.start()
            wait_for("the grants", lambda: late.infer("heart").status_code == 200)
        wait_for("the return", lambda: client.gateway.access.grants.problem is None)


def test_an_invalid_grant_is_ignored_and_does_not_delay_revocations(
    bare: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(client: Client) -> int:
        metrics = generate_latest(client.gateway.metrics.registry).decode()
        (line,) = [
            each for each in metrics.splitlines() if each.startswith("slipway_grants_unreadable ")
        ]
        return int(float(line.split()[1]))

    with (
        bare.gateway() as client,
        psycopg.connect(bare.database_url, autocommit=True) as connection,
    ):
        grant_id = give(client, "user:ada", "heart")
        wait_for("the grant", lambda: client.infer("heart").status_code == 200)
        connection.execute(
            "ALTER TABLE policies DROP CONSTRAINT policies_priority"
        )  # like a row that is older than the constraint
        connection.execute(
            "INSERT INTO policies (name, priority) VALUES ('poison', 'of a later release')"
        )
        connection.execute("INSERT INTO grants VALUES ('poisoned', 'user:eve', 'heart', 'poison')")
        wait_for("the unreadable grant to be counted", lambda: unreadable(client) == 1)
        assert client.infer("heart", "eve").status_code == 403
        assert [each["name"] for each in client.get("/v1/policies", "root").json()["policies"]] == [
            "default"
        ]
        assert "poisoned" in [
            each["grantId"] for each in client.get("/v1/grants", "root").json()["grants"]
        ]
        assert delete(client, f"/v1/grants/{grant_id}").status_code == 204
        wait_for("the revocation", lambda: client.infer("heart").status_code == 403)
        assert "grant poisoned is invalid and grants nothing" in caplog.text
        connection.execute("UPDATE policies SET priority = 'normal' WHERE name = 'poison'")
        wait_for("the corrected grant", lambda: client.infer("heart", "eve").status_code == 200)
        assert unreadable(client) == 0


@pytest.mark.parametrize(
    ("constraint", "statement"),
    [
        ("policies_priority", "INSERT INTO policies (name, priority) VALUES ('x', 'urgent')"),
        ("policies_limits", "INSERT INTO policies (name, requests_per_day) VALUES ('x', -1)"),
        ("policies_rate", "INSERT INTO policies (name, predictions_per_minute) VALUES ('x', 0)"),
        ("policies_cache", "INSERT INTO policies (name, cache_seconds) VALUES ('x', 0)"),
        ("grants_grantee", "INSERT INTO grants VALUES ('x', 'ada', '*', 'default')"),
        ("grants_models", "INSERT INTO grants VALUES ('x', 'user:ada', '', 'default')"),
    ],
)
def test_the_database_rejects_rows_that_gateways_cannot_read(
    environment: Environment, constraint: str, statement: str
) -> None:
    with (
        psycopg.connect(environment.database_url) as connection,
        pytest.raises(psycopg.errors.CheckViolation) as refused,
    ):
        connection.execute(statement.encode())
    assert refused.value.diag.constraint_name == constraint


def test_no_model_is_granted_before_the_first_read() -> None:
    watch = GrantWatch("postgresql://127.0.0.1:1/x", seconds=1)
    assert watch.age == NEVER
    with pytest.raises(Unavailable, match="not loaded yet"):
        watch.snapshot  # noqa: B018
