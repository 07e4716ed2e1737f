"""Separation of a user and a service account with the same name, for new and migrated objects."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from slipway_gateway.identity import subjects
from slipway_gateway.postgresql.migrate import migrate
from slipway_gateway.postgresql.migrations.versions import v0015_names
from slipway_gateway.postgresql.tables import metadata

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.issuer import Issuer
from tests.gateway.test_batches import TEMPLATE, upload
from tests.support.waiting import wait_for

OWNED = {table.name for table in metadata.sorted_tables if "subject" in table.c}
TYPED = r"^(user:|client:|erased-|departed-|:gateway$)"
OF_PEOPLE = ("audit", "deprovisioned", "known_accounts")
BEFORE = "0012"
"""The last revision without types of subjects."""
FORMER = {name: former for former, name in v0015_names.TABLES.items()}
"""Names of tables before revision 0015."""


@pytest.fixture(scope="module")
def shared(new_environment: Callable[[], Environment]) -> Environment:
    """Return an environment for the user and the service account."""
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.cluster.apply(TEMPLATE)
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name, requests_per_day) VALUES ('metered', 100)")
        connection.execute(
            "INSERT INTO grants (grant_id, grantee, models, policy) VALUES "
            "('client', 'client:robot', '*', 'metered'), ('user', 'user:robot', '*', 'metered')"
        )
    return environment


@pytest.fixture(scope="module")
def client(shared: Environment) -> Iterator[Client]:
    with shared.gateway(webhook_hosts=["127.0.0.1"]) as client:
        yield client


@pytest.fixture(scope="module")
def robot(issuer: Issuer) -> str:
    """Return a token of the service account."""
    return issuer.sign({**issuer.claims("robot", client_id="robot"), "groups": []})


def made(client: Client, who: str) -> list[str]:
    """Create a prediction, a task, a batch and a webhook of the caller; return their paths."""
    prediction = client.infer("heart", who).headers["x-request-id"]
    feedback = client.post(f"/v1/predictions/{prediction}/feedback", {"label": 1}, who)
    assert feedback.status_code == 201, feedback.text
    task = client.post(
        "/v2/models/heart/infer",
        v2_request(),
        who,
        Prefer="respond-async",
        **{"Idempotency-Key": "one"},
    )
    assert task.status_code == 202, task.text
    batch = upload(client, b"age,chol,thal\r\n63,233,6\r\n", who, key="one")
    assert batch.status_code == 202, batch.text
    webhook = client.post("/v1/webhooks", {"url": "http://127.0.0.1:9/"}, who)
    assert webhook.status_code == 201, webhook.text
    found = [
        f"/v1/predictions/{prediction}",
        f"/v1/predictions/{prediction}/feedback",
        task.headers["location"],
    ]
    return [*found, batch.headers["location"], f"/v1/webhooks/{webhook.json()['webhookId']}"]


def test_a_user_with_the_name_of_a_service_account_cannot_access_its_objects(
    client: Client, shared: Environment, robot: str
) -> None:
    of_robot, of_person = made(client, robot), made(client, "robot")
    assert not set(of_robot) & set(of_person), "idempotency keys are separate too"
    for who, theirs in (("robot", of_robot), (robot, of_person)):
        for path in theirs:
            if "webhooks" not in path and not (who == robot and "predictions" in path):
                assert client.get(path, who).status_code == 404, path
            if "predictions" not in path:
                assert client.http.delete(path, headers=client._headers(who)).status_code == 404, (
                    path
                )
    for who, subject, own in (
        ("robot", "user:robot", of_person),
        (robot, "client:robot", of_robot),
    ):
        assert client.get("/v1/me", who).json()["subject"] == subject
        assert client.get(own[0], who).json()["caller"] == subject
        assert [
            f"/v1/tasks/{each['taskId']}" for each in client.get("/v1/tasks", who).json()["tasks"]
        ] == [own[2]]
        assert [
            f"/v1/batches/{each['batchId']}"
            for each in client.get("/v1/batches", who).json()["batches"]
        ] == [own[3]]
        assert [
            f"/v1/webhooks/{each['webhookId']}"
            for each in client.get("/v1/webhooks", who).json()["webhooks"]
        ] == [own[4]]
        usage = client.get("/v1/usage", who).json()
        assert (usage["subject"], usage["total"] > 0) == (subject, True)
        assert client.get(f"/v1/usage?subject={subject}", "root").json() == usage
    bare = client.get("/v1/usage?subject=robot", "root").json()
    assert bare["subject"] == "user:robot"
    untyped = {
        table: names for table in OWNED if (names := untyped_names(shared.database_url, table))
    }
    assert untyped == {}


def untyped_names(url: str, table: str) -> set[str]:
    """Return the subjects without a type in a table, except the address in ``rate_levels``."""
    query = SQL("SELECT DISTINCT subject FROM {} WHERE subject !~ {}").format(
        Identifier(table), TYPED
    )
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute(query) if name != "127.0.0.1"}


def columns(connection: psycopg.Connection) -> dict[str, dict[str, str]]:
    """Return the tables with a subject, with the names and types of their required columns."""
    query = """
        SELECT table_name, column_name, data_type FROM information_schema.columns
        WHERE table_schema = 'public' AND is_nullable = 'NO' AND column_default IS NULL
          AND is_identity = 'NO'
    """
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(query):
        found.setdefault(table, {})[column] = kind
    return {table: given for table, given in found.items() if "subject" in given}


VALUES: dict[str, Any] = {
    "text": "x",
    "timestamp with time zone": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "jsonb": "{}",
    "bytea": b"x",
    "integer": 1,
    "bigint": 1,
    "double precision": 1.0,
}


def add(connection: psycopg.Connection, table: str, given: dict[str, str], **values: Any) -> None:
    """Insert a row with these values and placeholders in the other required columns."""
    key = f"{values['subject']} {values.get('decision', '')}"
    row = {
        name: key if name == "digest" or name.endswith("_id") else VALUES[kind]
        for name, kind in given.items()
    }
    row |= {name: value for name, value in values.items() if name in given}
    names, places = SQL(", ").join(map(Identifier, row)), SQL(", ").join([SQL("%s")] * len(row))
    connection.execute(
        SQL("INSERT INTO {} ({}) VALUES ({})").format(Identifier(table), names, places),
        list(row.values()),
    )


def test_the_migration_adds_types_to_the_subjects_of_every_table(
    new_database: Callable[[], str],
) -> None:
    url, pseudonym = new_database(), f"{subjects.FORMER_ERASED}{'0' * 16}"
    migrate(url, BEFORE)
    with psycopg.connect(url) as connection:
        owned = columns(connection)
        for each in metadata.sorted_tables:
            table = FORMER.get(each.name, each.name)
            if table not in owned or table == "storage":
                continue  # triggers of the other tables fill storage
            given = owned[table]
            if "decision" in given:
                for name, decision in [("ada", "predict:user"), ("nightly", "predict:service")]:
                    add(connection, table, given, subject=name, decision=decision)
                for decision in ("predict:user", "predict:service"):
                    add(connection, table, given, subject="robot", decision=decision)
            else:
                services = () if each.name in OF_PEOPLE else ("nightly",)
                for name in ("ada", "robot", pseudonym, *services):
                    add(connection, table, given, subject=name)
        connection.execute(
            "INSERT INTO grants (grant_id, grantee, models, policy) VALUES ('x', "
            "'client:quiet', '*', 'default')"
        )
        add(connection, "usage", owned["usage"], subject="quiet")
        add(connection, "audit", owned["audit"], subject=":gateway")
    migrate(url)
    with psycopg.connect(url) as connection:
        assert columns(connection).keys() == OWNED
        migrated = {name for name in OWNED if FORMER.get(name, name) in owned}
        assert len(migrated) == len(owned)
        seen = {
            table: {
                name
                for (name,) in connection.execute(
                    SQL("SELECT subject FROM {}").format(Identifier(table))
                )
            }
            for table in migrated
        }
    assert {table: names for table in migrated if (names := untyped_names(url, table))} == {}
    both = {"user:ada", "client:nightly", "client:robot"}
    assert seen["prediction_events"] == seen["tasks"] == {*both, "user:robot"}
    assert seen["batches"] == seen["quota_leases"] == seen["feedback"] == {*both, pseudonym}
    assert seen["usage"] == {*both, pseudonym, "client:quiet"}
    assert seen["webhooks"] == {"user:ada", "client:nightly", pseudonym}, (
        "the webhooks of an ambiguous name are deleted"
    )
    people = {"user:ada", "user:robot"}
    assert seen["known_accounts"] == seen["deprovisioned"] == {*people, pseudonym}
    assert seen["storage"] == seen["tasks"] | {pseudonym}
    assert seen["audit"] == {*people, pseudonym, ":gateway"}


def test_pseudonyms_of_all_releases_have_no_type_and_the_audit_has_the_current_word(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    names = {f"{subjects.FORMER_ERASED}1", f"{subjects.ERASED}1"}
    migrate(url, "0017")
    with psycopg.connect(url) as connection:
        owned = columns(connection)
        add(connection, "audit", owned["audit"], subject=":gateway", action="user.vanish")
    migrate(url)
    with psycopg.connect(url) as connection:
        for name in (*names, "ada"):
            event = owned["prediction_events"]
            add(connection, "prediction_events", event, subject=name, decision="predict:user")
        found = connection.execute("SELECT subject FROM prediction_events").fetchall()
        assert {name for (name,) in found} == {*names, "user:ada"}
        actions = connection.execute("SELECT action FROM audit").fetchall()
    assert actions == [("user.deprovision",)]
    assert {subjects.read(name) for name in names} == names


def test_spooled_events_of_a_former_release_get_types(client: Client, shared: Environment) -> None:
    request_id = client.infer("heart").headers["x-request-id"]
    wait_for("the event", lambda: shared.count(f"request_id = '{request_id}'") == 1)
    with psycopg.connect(shared.database_url) as connection:
        row = connection.execute(
            "SELECT row_to_json(e) FROM prediction_events e WHERE request_id = %s", [request_id]
        ).fetchone()
    assert row
    event = {camel(name): value for name, value in row[0].items()}
    given = [
        ("spool-1", "ada", "predict:user"),
        ("spool-2", "nightly", "predict:service"),
        ("spool-3", "client:robot", "x"),
    ]
    lines = [
        orjson.dumps({**event, "requestId": key, "subject": name, "decision": rule})
        for key, name, rule in given
    ]
    client.environment.spool.joinpath("0-of-before.jsonl").write_bytes(
        b"".join(line + b"\n" for line in lines)
    )
    wait_for("the events", lambda: shared.count("request_id LIKE 'spool-%'") == 3)
    with psycopg.connect(shared.database_url) as connection:
        found = connection.execute(
            "SELECT subject FROM prediction_events WHERE request_id LIKE 'spool-%' ORDER BY "
            "request_id"
        )
        assert [name for (name,) in found] == ["user:ada", "client:nightly", "client:robot"]


def camel(name: str) -> str:
    """Convert a column's name to the name in a spool's JSON line."""
    first, *rest = name.split("_")
    return first + "".join(each.title() for each in rest)
