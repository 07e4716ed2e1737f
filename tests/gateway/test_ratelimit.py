"""Rate limits at one replica and at several, and the trusted client address."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import ValidationError
from slipway_gateway.access.rules import Spending
from slipway_gateway.errors import TooMany
from slipway_gateway.http.addresses import client_address, read_networks
from slipway_gateway.limits.rates import Bucket, Rates
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.access import RULES
from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import ROW, Predictor
from tests.support.postgresql import PostgresServer
from tests.support.waiting import wait_for

ADA = ("ada", "default")


def test_a_bucket_has_one_minute_of_tokens_and_refills_continuously() -> None:
    bucket = Bucket(60, now=0)
    assert [bucket.take(0) for _ in range(61)] == [True] * 60 + [False]
    assert not bucket.take(0.99)
    assert bucket.take(1.01)
    assert not bucket.take(1.02)
    bucket.fill(1000)
    assert bucket.level == 60


def test_header_fields_have_the_remaining_tokens_and_the_reset_time() -> None:
    rates = Rates()
    assert rates.take(ADA, "predictions", 2) == [
        (b"ratelimit-policy", b'"predictions";q=2;w=60'),
        (b"ratelimit", b'"predictions";r=1;t=30'),
    ]
    rates.take(ADA, "predictions", 2)
    with pytest.raises(TooMany, match="limit of 2 predictions a minute is exceeded") as refused:
        rates.take(ADA, "predictions", 2)
    assert (b"retry-after", b"30") in refused.value.headers
    assert (b"ratelimit", b'"predictions";r=0;t=60') in refused.value.headers
    rates.take(("bob", "default"), "predictions", 2)


def test_full_buckets_are_removed_and_others_are_not() -> None:
    rates = Rates()
    rates.take(ADA, "predictions", 10**7)
    rates.take(("bob", "default"), "predictions", 1)
    for key, bucket in rates.spent():
        rates.synchronize(key, bucket.level, bucket.spent)

    def removed() -> bool:
        rates.remove_full()
        return ADA not in rates._buckets

    wait_for("the bucket to be full", removed)
    assert rates.is_empty(("bob", "default"))


def test_every_route_except_probes_has_a_rate_limit() -> None:
    assert {rule.path for rule in RULES if rule.spends is None} == {
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
    }
    others = [rule for rule in RULES if rule.spends and rule.spends is not Spending.REQUEST]
    assert {(rule.method, rule.path.rpartition("/")[2]): rule.spends for rule in others} == {
        ("POST", "infer"): Spending.PREDICTION,
        ("POST", "predictions"): Spending.PREDICTION,
        ("POST", "trainings"): Spending.TRAINING,
        ("POST", "promotions"): Spending.TRAINING,
        ("POST", "rollback"): Spending.TRAINING,
        ("POST", "batches"): Spending.TRAINING,
        ("POST", "feedback"): Spending.FEEDBACK,
    }
    assert all("{model}" in rule.path for rule in RULES if rule.spends is Spending.PREDICTION)


@pytest.fixture
def replicas(own_environment: Environment) -> Iterator[list[Client]]:
    """Two gateways on one database; 30 predictions a minute."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                own_environment.gateway(
                    spool=own_environment.folder / f"spool-{number}", predictions_per_minute=30
                )
            )
            for number in range(2)
        ]


def test_a_caller_over_the_rate_gets_429_in_the_error_format_of_the_path(
    own_environment: Environment,
) -> None:
    with own_environment.gateway(predictions_per_minute=2) as client:
        answers = [
            client.infer("heart"),
            client.post("/v1/models/heart/predictions", {"instances": [ROW]}),
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.headers["ratelimit-policy"] for answer in answers] == [
            '"predictions";q=2;w=60'
        ] * 2
        assert answers[0].headers["ratelimit"].startswith('"predictions";r=1;t=')
        v2 = client.infer("heart")
        v1 = client.post("/v1/models/heart/predictions", {"instances": [ROW]})
        assert (v2.status_code, v2.json()) == (
            429,
            {"error": "the limit of 2 predictions a minute is exceeded"},
        )
        assert (v1.status_code, v1.json()["title"]) == (429, "Too Many Requests")
        assert 1 <= int(v2.headers["retry-after"]) <= 30
        assert v2.headers["ratelimit"].startswith('"predictions";r=0;t=')
        assert client.infer("heart", "bob").status_code == 200
        assert client.get("/v2/models/heart").status_code == 200  # only predictions are limited
        malformed = client.post("/v2/models/heart/infer", b"no json", "carl")
        assert malformed.headers["ratelimit"].startswith('"predictions";r=1')


def test_a_policy_can_set_another_rate(own_environment: Environment) -> None:
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name, predictions_per_minute) VALUES ('slow', 1)")
        connection.execute("INSERT INTO grants VALUES ('x', 'user:ada', '*', 'slow')")
    with own_environment.gateway() as client:
        assert [client.infer("heart").status_code for _ in range(2)] == [200, 429]
        assert client.infer("heart", "bob").status_code == 200


def test_trainings_and_promotions_have_their_own_rate(
    own_environment: Environment, issuer: Issuer
) -> None:
    with own_environment.gateway(training_per_minute=2) as client:
        sam = issuer.token("sam", "scientist")
        paths = [
            "/v1/models/heart/trainings",
            "/v1/models/heart/promotions",
            "/v1/models/heart/trainings",
        ]
        statuses = [client.post(path, b"{", sam).status_code for path in paths]
        assert 429 not in statuses[:2]
        assert statuses[2] == 429
        assert client.infer("heart", sam).status_code == 200


def test_all_other_requests_share_a_rate(own_environment: Environment) -> None:
    with own_environment.gateway(requests_per_minute=3) as client:
        paths = ["/v1/me", "/v1/webhooks", "/v2/models/heart", "/v1/models", "/v1/me"]
        answers = [client.get(path) for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
        assert 1 <= int(answers[3].headers["retry-after"]) <= 20
        assert answers[3].json()["detail"] == "the limit of 3 requests a minute is exceeded"
        assert client.infer("heart").status_code == 200
        assert client.get("/v1/me", "bob").status_code == 200


def test_routes_without_authentication_have_a_rate_per_address_and_probes_none(
    own_environment: Environment,
) -> None:
    with own_environment.gateway(requests_per_minute=3, trusted_proxies="127.0.0.0/8") as client:

        def ask(path: str, address: str) -> int:
            return client.http.get(path, headers={"x-forwarded-for": address}).status_code

        assert [
            ask("/v1/docs", "192.0.2.1"),
            ask("/v2", "192.0.2.1"),
            ask("/v1/openapi.json", "192.0.2.1"),
        ] == [200] * 3
        assert ask("/v1/openapi.json", "192.0.2.1") == 429
        assert ask("/v1/openapi.json", "192.0.2.2") == 200
        assert {
            ask(path, "192.0.2.1")
            for path in ("/livez", "/readyz", "/v2/health/live")
            for _ in range(10)
        } == {200}


def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway_gateway.limits.rates.MAX_BUCKETS", 10)
    rates = Rates()
    for number in range(100):
        rates.take((f"192.0.2.{number}", ":refused"), "refused tokens", 5)
    assert len(rates._buckets) == 10


def test_replicas_share_the_bucket_of_a_caller(replicas: list[Client]) -> None:
    first, second = replicas
    statuses = [first.infer("heart").status_code for _ in range(31)]
    assert statuses.count(200) >= 30
    assert statuses[-1] == 429 or statuses.count(200) == 31  # the bucket refills during the loop
    assert second.infer("heart").status_code == 200  # not yet synchronized
    wait_for("the synchronization", lambda: second.infer("heart").status_code == 429)


@pytest.mark.slow
def test_two_replicas_enforce_the_rate_over_time(replicas: list[Client]) -> None:
    """Allow one burst of twice the bucket, which later requests compensate."""
    start, rounds, passed = time.monotonic(), 0, 0
    while (seconds := time.monotonic() - start) < 5 or rounds < 100:
        passed += sum(client.infer("heart").status_code == 200 for client in replicas)
        rounds += 1
        time.sleep(0.005)
    assert 30 <= passed <= 2 * 30 + seconds * 30 / 60


@pytest.mark.slow
def test_without_the_database_each_replica_uses_its_own_buckets(
    tmp_path: Any, own_postgres: PostgresServer, issuer: Issuer, predictor: Predictor
) -> None:
    migrate(own_postgres.get_uri())
    environment = Environment(tmp_path / "environment", own_postgres.get_uri(), issuer, predictor)
    environment.model("heart", ("3", 100))
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(
                environment.gateway(spool=tmp_path / f"s{n}", predictions_per_minute=5)
            )
            for n in range(2)
        ]
        own_postgres.stop()
        for client in replicas:
            statuses = [client.infer("heart").status_code for _ in range(6)]
            assert statuses == [200] * 5 + [429]
        own_postgres.start()
        first = replicas[0].gateway
        wait_for("the synchronization", lambda: not list(first.access.rates.spent()))
        wait_for("a negative level in the database", lambda: _level(environment) < 0)


def _level(environment: Environment) -> float:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(
            "SELECT level FROM rate_levels WHERE subject = 'user:ada'"
        ).fetchone()
    return float(row[0]) if row else 0.0


def test_an_address_with_many_invalid_tokens_is_limited_and_known_callers_are_not(
    own_environment: Environment, issuer: Issuer
) -> None:
    bad = issuer.token("eve", aud="elsewhere")
    with own_environment.gateway(refused_per_minute=3, trusted_proxies="127.0.0.0/8") as client:

        def ask(token: str, address: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}", "x-forwarded-for": address}
            return client.http.get("/v1/me", headers=headers)

        known = issuer.token("ada")
        assert ask(known, "192.0.2.1").status_code == 200
        assert [ask(bad, "192.0.2.1").status_code for _ in range(4)] == [401, 401, 401, 429]
        refused = ask(issuer.token("bob"), "192.0.2.1")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert ask(known, "192.0.2.1").status_code == 200
        assert ask(bad, "192.0.2.2").status_code == 401
        assert client.get("/v1/me", None).status_code == 401


PROXIES = read_networks("10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # an untrusted peer
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.9", "198.51.100.9"),  # 1.1.1.1 is forged
        ("10.0.0.1", "198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ],
)
def test_the_client_address_is_the_nearest_untrusted_one(
    peer: str, forwarded: str, address: str
) -> None:
    headers = {b"x-forwarded-for": forwarded.encode()} if forwarded else {}
    assert client_address({"client": (peer, 1)}, headers, PROXIES) == address
    assert client_address({"client": (peer, 1)}, headers, ()) != "198.51.100.9"


def test_an_invalid_proxy_network_is_rejected_at_startup(own_environment: Environment) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        own_environment.settings(trusted_proxies="10.0.0.0/99")
