"""Retention of the event log: bodies and predictions expire by the days of their Models."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest
from pydantic import ValidationError
from slipway_cluster.interface import MODEL, ClusterError
from slipway_contract.errors import explain_settings
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.retention import BATCH, EventRetention
from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.postgresql.database import Database
from slipway_gateway.settings import Settings
from slipway_local.standin.local_cluster import LocalCluster

from tests.gateway.environment import Environment
from tests.gateway.predictor import DIGEST
from tests.support.waiting import until

SENTENCE = {"bodies": "10d", "facts": "40d"}


def log_predictions(environment: Environment, model: str, *days: float, prefix: str = "") -> None:
    """Insert a prediction with feedback for each age in days; its id is ``MODEL-DAYS``."""
    with psycopg.connect(environment.database_url) as connection:
        for age in days:
            key = f"{prefix}{model}-{age:g}"
            moment = datetime.now(UTC) - timedelta(days=age)
            connection.execute(
                "INSERT INTO prediction_events (request_id, time, model, version, digest, role, "
                "subject, decision, protocol, status, latency_ms, request, response) VALUES (%s, "
                "%s, %s, '3', %s, 'live', 'user:ada', 'predict:user', 'v2', 200, 1, %s, %s)",
                [key, moment, model, DIGEST, '{"inputs": []}', '{"outputs": []}'],
            )
            connection.execute(
                "INSERT INTO feedback (feedback_id, request_id, time, subject, label, comment) "
                "VALUES (%s, %s, %s, 'user:ada', '1', 'was right')",
                [f"of-{key}", key, moment],
            )


def log_image(environment: Environment, request_id: str, days: float) -> None:
    moment, digest = datetime.now(UTC) - timedelta(days=days), f"sha256:{request_id}"
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(
            "INSERT INTO images VALUES (%s, 'pixels', %s, 'user:ada')", [digest, moment]
        )
        connection.execute(
            "INSERT INTO prediction_images VALUES (%s, 0, 'user:ada', %s, %s)",
            [request_id, digest, moment],
        )


def expire(environment: Environment, *, seconds: float = 600, **days: int) -> bool:
    """Run one pass; return whether it is complete."""

    async def run() -> bool:
        database = Database(environment.database_url)
        try:
            return await _retention(database, environment.cluster, **days).once(seconds)
        finally:
            await database.close()

    return asyncio.run(run())


def _retention(
    database: Database, cluster: LocalCluster, body_days: int = 0, fact_days: int = 0
) -> EventRetention:
    return EventRetention(database, cluster, body_days=body_days, fact_days=fact_days)


def read(environment: Environment, query: str) -> list[Any]:
    """Return the rows of a query; those of one column as their values."""
    with psycopg.connect(environment.database_url) as connection:
        rows = connection.execute(query).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def predictions(environment: Environment) -> dict[str, bool]:
    """Return the ids of all predictions, and whether the bodies are stored."""
    rows = read(
        environment,
        "SELECT request_id, bodies_removed, request IS NOT NULL, response IS NOT NULL "
        "FROM prediction_events",
    )
    for _, removed, request, response in rows:
        assert (removed is None) == request == response
    return {request_id: request for request_id, _, request, _ in rows}


def test_bodies_expire_first_and_predictions_with_their_feedback_later(
    own_environment: Environment,
) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    own_environment.model("lungs", ("3", 100))
    log_predictions(own_environment, "heart", 1, 9.9, 10.1, 39.9, 40.1, 500)
    log_predictions(own_environment, "lungs", 1, 500)
    before = read(own_environment, "SELECT bytes FROM storage WHERE kind = 'feedback'")
    assert expire(own_environment)
    expected = {"heart-1": True, "heart-9.9": True, "heart-10.1": False, "heart-39.9": False}
    assert predictions(own_environment) == {**expected, "lungs-1": True, "lungs-500": True}
    known = read(own_environment, "SELECT request_id FROM feedback")
    assert set(known) == predictions(own_environment).keys()
    after = read(own_environment, "SELECT bytes FROM storage WHERE kind = 'feedback'")
    assert after < before, "the feedback does not count any more"

    rows = read(own_environment, "SELECT request_id, xmin::text FROM prediction_events")
    assert expire(own_environment)
    assert read(own_environment, "SELECT request_id, xmin::text FROM prediction_events") == rows, (
        "a repeated pass changes nothing"
    )


def test_a_receipt_states_that_the_bodies_were_removed_and_feedback_is_still_accepted(
    own_environment: Environment,
) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    with own_environment.gateway() as client:
        sent = client.infer("heart").headers["x-request-id"]
        assert client.get(f"/v1/predictions/{sent}").json()["bodiesRemoved"] is None
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("UPDATE prediction_events SET time = time - interval '11 days'")
        started = datetime.now(UTC)
        assert expire(own_environment)
        receipt = client.get(f"/v1/predictions/{sent}").json()
        assert (receipt["request"], receipt["response"]) == (None, None)
        removed = datetime.fromisoformat(receipt["bodiesRemoved"])
        assert started - timedelta(minutes=1) < removed < datetime.now(UTC) + timedelta(minutes=1)
        assert (receipt["model"], receipt["status"]) == ("heart", 200)
        answer = client.post(f"/v1/predictions/{sent}/feedback", {"label": 1})
        assert answer.status_code == 201, answer.text


def test_an_event_that_is_delivered_again_does_not_restore_its_bodies(
    own_environment: Environment,
) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    log_predictions(own_environment, "heart", 11)
    (line,) = read(
        own_environment,
        "SELECT json_build_object('requestId', request_id, 'time', time, 'model', model, "
        "'version', version, 'digest', digest, 'role', role, 'subject', subject, 'decision', "
        "decision, 'protocol', protocol, 'status', status, 'latencyMs', latency_ms, 'request', "
        "request, 'response', response) FROM prediction_events",
    )
    assert expire(own_environment)

    async def ship() -> None:
        database = Database(own_environment.database_url)
        storage = Storage(database, per_caller=2**30, limit=2**30)
        await EventLog(database, storage).ship([orjson.dumps(line)])
        await database.close()

    asyncio.run(ship())
    assert predictions(own_environment) == {"heart-11": False}


def test_the_days_of_the_installation_apply_to_models_without_their_own(
    own_environment: Environment,
) -> None:
    own_environment.model("heart", ("3", 100), retention={"bodies": "100d"})
    own_environment.model("lungs", ("3", 100))
    for model in ("heart", "lungs", "removed"):
        log_predictions(own_environment, model, 50, 150, 350)
    assert expire(own_environment, body_days=20, fact_days=300)
    assert predictions(own_environment) == {
        "heart-50": True,
        "heart-150": False,
        "lungs-50": False,
        "lungs-150": False,
        "removed-50": False,
        "removed-150": False,
    }


def test_bodies_of_a_model_beyond_the_facts_of_the_installation_extend_its_facts(
    own_environment: Environment,
) -> None:
    own_environment.model("heart", ("3", 100), retention={"bodies": "100d"})
    own_environment.model("lungs", ("3", 100))
    for model in ("heart", "lungs"):
        log_predictions(own_environment, model, 50, 70, 99, 101)
    assert expire(own_environment, fact_days=60)
    assert predictions(own_environment) == {
        "heart-50": True,
        "heart-70": True,
        "heart-99": True,
        "lungs-50": True,
    }


def test_the_days_of_a_deleted_model_remain_in_effect(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    assert expire(own_environment)
    own_environment.delete_model("heart")
    log_predictions(own_environment, "heart", 1, 11, 41)
    assert expire(own_environment)
    assert predictions(own_environment) == {"heart-1": True, "heart-11": False}

    own_environment.model("heart", ("3", 100))  # a new Model of the name, without days
    log_predictions(own_environment, "heart", 11, 41, prefix="new-")
    assert expire(own_environment)
    assert predictions(own_environment)["new-heart-41"]


class ClusterOfALaterRelease(LocalCluster):
    """A cluster whose Models have days in a form that this release does not know."""

    def list(self, *given: Any, **named: Any) -> list[dict[str, Any]]:
        found = super().list(*given, **named)
        return [
            {**each, "spec": {**each["spec"], "retention": {"bodies": "P10D"}}} for each in found
        ]


class UnreachableCluster(LocalCluster):
    """A cluster that does not answer."""

    def list(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        raise ClusterError("the API server does not answer")


def test_nothing_expires_when_the_days_of_a_model_are_unknown(
    own_environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    log_predictions(own_environment, "heart", 500)
    folder = own_environment.folder / "cluster"
    own_environment.cluster = ClusterOfALaterRelease(folder)
    assert expire(own_environment, body_days=20, fact_days=300)
    assert "spec.retention of model heart is invalid" in caplog.text
    own_environment.cluster = UnreachableCluster(folder)
    assert not expire(own_environment, body_days=20, fact_days=300)
    assert "the Models cannot be read: the API server does not answer" in caplog.text
    assert predictions(own_environment) == {"heart-500": True}


def test_a_pass_deletes_in_batches_and_ends_at_its_deadline(
    own_environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute(  # three groups of equal times, each longer than a batch
            "INSERT INTO prediction_events (request_id, time, model, version, digest, role, "
            "subject, decision, protocol, status, latency_ms, request, response) "
            "SELECT 'many-' || n, date_trunc('day', now()) - interval '20 days' * (1 + n %% 3), "
            "'heart', '3', 'sha256:x', 'live', 'ada', 'predict:user', 'v2', 200, 1, '{}', '{}' "
            "FROM generate_series(1, %s) n",
            [6 * BATCH],
        )
    assert not expire(own_environment, seconds=0)
    assert own_environment.count("request IS NOT NULL") == 6 * BATCH
    caplog.set_level(logging.INFO, "slipway_gateway.eventlog.retention")
    assert expire(own_environment)
    assert own_environment.count() == 2 * BATCH
    assert own_environment.count("request IS NOT NULL OR bodies_removed IS NULL") == 0
    assert f"retention: {4 * BATCH} predictions of model heart before" in caplog.text
    assert f"retention: {2 * BATCH} requests and responses of model heart" in caplog.text


def test_a_locked_row_is_left_to_the_next_pass(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    log_predictions(own_environment, "heart", 11, 12, 41, 42, 43)
    with psycopg.connect(own_environment.database_url) as other:
        other.execute(
            "SELECT FROM prediction_events WHERE request_id IN ('heart-11', 'heart-41') FOR UPDATE"
        )
        other.execute("SELECT FROM feedback WHERE request_id = 'heart-42' FOR UPDATE")
        assert expire(own_environment)
        assert predictions(own_environment) == {
            "heart-11": True,
            "heart-12": False,
            "heart-41": True,
            "heart-42": False,
        }
        assert read(own_environment, "SELECT feedback_id FROM feedback ORDER BY 1") == [
            "of-heart-11",
            "of-heart-12",
            "of-heart-42",
        ]
    assert expire(own_environment)
    assert predictions(own_environment) == {"heart-11": False, "heart-12": False}


def test_one_gateway_at_a_time_deletes(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    log_predictions(own_environment, "heart", 11, 41)
    with psycopg.connect(own_environment.database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('retention', 0))")
        assert expire(own_environment), "another gateway makes the pass"
        assert predictions(own_environment) == {"heart-11": True, "heart-41": True}
    log_predictions(own_environment, "heart", *(50 + n / 100 for n in range(100)))

    async def together() -> None:
        database = Database(own_environment.database_url)
        each = _retention(database, own_environment.cluster)
        await asyncio.gather(*(each.once() for _ in range(4)))
        await database.close()

    asyncio.run(together())
    assert expire(own_environment)
    assert predictions(own_environment) == {"heart-11": False}


def test_a_gateway_applies_the_retention(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100))
    log_predictions(own_environment, "heart", 11, 41)
    with own_environment.gateway(retention_body_days=10, retention_fact_days=40):
        until(lambda: predictions(own_environment), lambda seen: seen == {"heart-11": False})


def test_images_expire_with_the_bodies_of_their_model(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100), retention={"bodies": "50d", "facts": "60d"})
    own_environment.model("lungs", ("3", 100), retention={"bodies": "10d"})
    own_environment.model("digits", ("3", 100), retention={"facts": "60d"})
    for model, *ages in (("heart", 45, 55, 65), ("lungs", 5, 15), ("digits", 25, 35)):
        log_predictions(own_environment, str(model), *map(float, ages))
        for age in ages:
            log_image(own_environment, f"{model}-{age}", float(age))
    log_image(own_environment, "not-shipped-25", 25)
    assert expire(own_environment)

    async def sweep() -> None:
        database = Database(own_environment.database_url)
        storage = Storage(database, per_caller=2**30, limit=2**30)
        await ImageStore(database, storage, days=30).sweep()
        await database.close()

    asyncio.run(sweep())
    expected = ["digits-25", "heart-45", "lungs-5", "not-shipped-25"]
    assert read(own_environment, "SELECT request_id FROM prediction_images ORDER BY 1") == expected
    assert read(own_environment, "SELECT digest FROM images ORDER BY 1") == [
        f"sha256:{each}" for each in expected
    ]


def test_rows_without_bodies_are_not_read_again(own_environment: Environment) -> None:
    """Explain the query for expired bodies, whose index excludes the rows without them."""
    with psycopg.connect(own_environment.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO prediction_events (request_id, time, model, version, digest, role, "
            "subject, decision, protocol, status, latency_ms) SELECT 'many-' || n, now() - n * "
            "interval '1 minute', 'heart', '3', 'x', 'live', 'ada', 'x', 'v2', 200, 1 FROM "
            "generate_series(1, 20000) n"
        )
        connection.execute("ANALYZE prediction_events")
        plan = connection.execute(
            "EXPLAIN SELECT request_id FROM prediction_events WHERE model = 'heart' AND time < "
            "now() - interval '1 day' AND (request IS NOT NULL OR response IS NOT NULL) ORDER BY "
            "time, request_id LIMIT 500 FOR UPDATE SKIP LOCKED"
        ).fetchall()
    assert "prediction_events_bodies" in str(plan)


@pytest.mark.parametrize("days", [{"retention_fact_days": 29}, {"retention_body_days": 10000}])
def test_invalid_days_of_the_installation_are_rejected(
    own_environment: Environment, days: dict[str, int]
) -> None:
    with pytest.raises(ValidationError):
        own_environment.settings(**days)
    with pytest.raises(ValidationError) as refused:
        own_environment.settings(retention_body_days=90, retention_fact_days=60)
    assert "set it to 90 or more, or to 0 for rows without end" in explain_settings(refused.value)
    assert isinstance(
        own_environment.settings(retention_body_days=90, retention_fact_days=0), Settings
    )


def test_models_are_read_from_the_cluster(own_environment: Environment) -> None:
    """Raise the days while no gateway runs: the next pass uses the new ones."""
    own_environment.model("heart", ("3", 100), retention=SENTENCE)
    assert expire(own_environment)
    log_predictions(own_environment, "heart", 11, 41)
    stored = own_environment.cluster.get(MODEL, "heart")
    stored["spec"]["retention"] = {"bodies": "60d", "facts": "90d"}
    own_environment.cluster.replace(stored)
    assert expire(own_environment)
    assert predictions(own_environment) == {"heart-11": True, "heart-41": True}
