"""The log contains each answered prediction exactly once, through every failure."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from prometheus_client import generate_latest
from slipway_contract.events import FeedbackEvent, PredictionEvent
from slipway_gateway.errors import Unavailable
from slipway_gateway.eventlog.spool import SEGMENT, Spool
from slipway_gateway.postgresql.database import sqlalchemy_url
from slipway_gateway.postgresql.migrate import migrate
from slipway_gateway.postgresql.tables import CHECKS, feedback, metadata, prediction_events
from sqlalchemy import create_engine, inspect

from tests.gateway.environment import Environment, Process, running
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.support.postgresql import PostgresServer
from tests.support.waiting import SECONDS, wait_for


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path, limit=1000)
    yield spool
    spool.close()


def _shipped(spool: Spool) -> list[bytes]:
    return [line for segment in spool.claim() for lines in segment.batches() for line in lines]


def test_a_spooled_line_is_shipped_once_its_segment_is_closed(spool: Spool) -> None:
    spool.append(b"one\n")
    assert _shipped(spool) == []
    spool.rotate()
    spool.append(b"two\n")
    assert _shipped(spool) == [b"one"]
    spool.rotate()
    assert _shipped(spool) == [b"one", b"two"]
    for segment in spool.claim():
        spool.drop(segment)
    assert (_shipped(spool), spool.size) == ([], 0)


def test_a_long_segment_is_closed_so_that_shipped_events_free_space(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, limit=10 * SEGMENT)
    line = b"x" * (SEGMENT // 4) + b"\n"
    for _ in range(6):
        spool.append(line)
    (closed,) = spool.claim()
    assert (closed.size, spool.size) == (4 * len(line), 6 * len(line))
    spool.drop(closed)
    assert spool.size == 2 * len(line)
    spool.close()


def test_an_incomplete_last_line_is_ignored(
    tmp_path: Path, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "0.jsonl").write_bytes(b"one\ntw")
    assert _shipped(spool) == [b"one"]
    assert "torn line of 2 bytes" in caplog.text


def test_lines_are_complete_across_batches(tmp_path: Path, spool: Spool) -> None:
    lines = [b"%d" % number * 300 for number in range(5000)]
    (tmp_path / "0.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert _shipped(spool) == lines


def test_a_segment_of_a_running_process_is_not_shipped(tmp_path: Path, spool: Spool) -> None:
    other = Spool(tmp_path, limit=1000)
    other.append(b"theirs\n")
    assert _shipped(spool) == []
    other.close()
    assert _shipped(spool) == [b"theirs"]


def test_a_full_spool_rejects_events_and_counts_segments_of_earlier_processes(
    tmp_path: Path, spool: Spool
) -> None:
    spool.append(b"x" * 999 + b"\n")
    with pytest.raises(Unavailable, match="full"):
        spool.check()
    spool.rotate()
    successor = Spool(tmp_path, limit=1000)
    with pytest.raises(Unavailable, match="full"):
        successor.check()
    for segment in successor.claim():
        successor.drop(segment)
    successor.check()
    successor.close()


def test_a_full_disk_leaves_no_incomplete_line(spool: Spool) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    own, spool._descriptor = spool._descriptor, full
    with pytest.raises(Unavailable, match="cannot be written"):
        spool.append(b"one\n")
    spool._descriptor = own
    os.close(full)
    spool.append(b"two\n")
    spool.rotate()
    assert _shipped(spool) == [b"two"]


def test_tables_match_the_migrations_and_the_contract(
    own_environment: Environment,
) -> None:
    migrate(own_environment.database_url)  # a second time
    engine = create_engine(sqlalchemy_url(own_environment.database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": "gateway_schema", "include_name": _is_ours}
        )
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table, named in CHECKS.items():
            assert {each["name"] for each in found.get_check_constraints(table)} == set(named)
    engine.dispose()
    assert list(prediction_events.columns.keys()) == [
        *PredictionEvent.model_fields,
        "bodies_removed",
    ]
    assert list(feedback.columns.keys()) == list(FeedbackEvent.model_fields)


def test_a_row_that_breaks_a_later_constraint_does_not_stop_the_migration(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    migrate(url, "0013")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO policies (name, priority) VALUES ('old', 'urgent')")
        migrate(url)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("INSERT INTO policies (name, priority) VALUES ('new', 'urgent')")
        row = connection.execute("SELECT priority FROM policies WHERE name = 'old'").fetchone()
    assert row == ("urgent",)


def test_the_schema_of_a_later_release_is_not_changed(own_environment: Environment) -> None:
    url = own_environment.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE gateway_schema SET version_num = '9999'")
        migrate(url)
        revision = connection.execute("SELECT version_num FROM gateway_schema").fetchone()
    assert revision == ("9999",)
    with own_environment.gateway() as client:
        assert client.infer("heart").status_code == 200


def _is_ours(name: str | None, kind: str, _: object) -> bool:
    return not (kind == "table" and str(name).startswith("procrastinate_"))


def test_concurrent_migrations_succeed(new_database: Callable[[], str]) -> None:
    url = new_database()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(migrate, [url] * 4)) == [None] * 4


@pytest.mark.slow
def test_the_migrate_command_names_the_missing_setting(own_environment: Environment) -> None:
    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "slipway_gateway", "migrate"]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    given = {
        "SLIPWAY_CLUSTER": "local:///x",
        "SLIPWAY_OIDC_ISSUER": "http://x",
        "SLIPWAY_OIDC_AUDIENCE": "x",
    }
    missing = run(**given)
    assert missing.returncode == 2
    assert "SLIPWAY_DATABASE_URL: Field required" in missing.stderr
    assert run(**given, SLIPWAY_DATABASE_URL=own_environment.database_url).returncode == 0
    away = run(**given, SLIPWAY_DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert away.returncode == 1
    assert "PostgreSQL cannot be reached" in away.stderr


def test_an_event_matches_the_contract(own_environment: Environment) -> None:
    with own_environment.gateway(ship_seconds=3600) as client:
        request_id = client.infer("heart").headers["x-request-id"]
        (line,) = [
            each
            for path in own_environment.spool.glob("*.jsonl")
            for each in path.read_bytes().splitlines()
        ]
        event = PredictionEvent.model_validate_json(line)
        assert (event.request_id, event.model, event.version, event.subject) == (
            request_id,
            "heart",
            "3",
            "user:ada",
        )
    assert own_environment.count() == 1  # shipped at the end of the process


def test_a_line_that_the_database_rejects_is_set_aside_and_others_are_stored(
    own_environment: Environment,
) -> None:
    own_environment.spool.mkdir()
    with own_environment.gateway(ship_seconds=3600) as client:
        for _ in range(5):
            client.infer("heart")
    segment = own_environment.spool / "0.jsonl"
    with psycopg.connect(own_environment.database_url) as connection:
        rows = connection.execute("SELECT to_json(e) FROM prediction_events e").fetchall()
        connection.execute("TRUNCATE prediction_events")
    good = [{_camel(key): value for key, value in row[0].items()} for row in rows]
    lines = [orjson.dumps(event) for event in good]
    segment.write_bytes(
        b"\n".join([*lines[:2], b"{broken", *lines[2:], orjson.dumps({**good[0], "model": None})])
        + b"\n"
    )
    with own_environment.gateway(ship_seconds=0.05):
        wait_for("the shipment", lambda: not segment.exists())
    assert own_environment.count() == 5
    assert segment.with_suffix(".rejected").read_bytes().count(b"\n") == 2


LINES = {
    "not JSON": b"{broken",
    "not UTF-8": b'{"requestId": "\xff"}',
    "not an object": b'"requestId"',
}
FIELDS = {
    "a NUL character": b'"model": "a\\u0000b"',
    "half a surrogate pair": b'"model": "\\ud800"',
    "a column without a value": b'"model": null',
    "a status that is no integer": b'"status": 99999999999',
    "a time that is none": b'"time": "no time"',
    "a key that no index takes": b'"subject": "%s"' % os.urandom(8000).hex().encode(),
}
"""Replacements of a field in a valid event."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*LINES, *FIELDS])
def test_an_invalid_event_is_set_aside_and_counted_and_others_are_stored(
    own_environment: Environment, kind: str
) -> None:
    good = [event(f"good-{number}") for number in range(3)]
    bad = LINES.get(kind) or b"%s,%s}" % (
        event("bad")[:-1],
        FIELDS[kind],
    )  # the last of two equal fields applies
    own_environment.spool.mkdir()
    segment = own_environment.spool / "0.jsonl"
    segment.write_bytes(b"\n".join([good[0], bad, *good[1:]]) + b"\n")
    with own_environment.gateway(ship_seconds=0.05) as client:
        wait_for("the shipment", lambda: not segment.exists())
        assert client.gateway.events.shipper.problem is None
        assert b"slipway_events_rejected_total 1.0" in generate_latest(
            client.gateway.metrics.registry
        )
    assert own_environment.count() == 3
    assert segment.with_suffix(".rejected").read_bytes() == bad + b"\n"


def event(request_id: str) -> bytes:
    """Return a line of the spool without its end."""
    names = {
        "model": "heart",
        "version": "3",
        "digest": "sha256:0",
        "subject": "ada",
        "decision": "granted",
        "protocol": "v2",
    }
    return (
        PredictionEvent(
            **names, request_id=request_id, time=datetime.now(UTC), status=200, latency_ms=1
        )
        .model_dump_json(by_alias=True)
        .encode()
    )


def test_an_unreadable_segment_stays_in_place_and_others_are_shipped(
    own_environment: Environment,
) -> None:
    with own_environment.gateway() as client:
        unreadable = own_environment.spool / "0.jsonl"
        # reading a folder fails in the same way as a defective disk
        unreadable.mkdir()
        client.infer("heart")
        wait_for("the shipment", lambda: own_environment.count() == 1)
        wait_for(
            "the count",
            lambda: (
                b"slipway_spool_unreadable 1.0" in generate_latest(client.gateway.metrics.registry)
            ),
        )
        assert client.get("/readyz", who=None).status_code == 200
        unreadable.rmdir()
        wait_for(
            "the count",
            lambda: (
                b"slipway_spool_unreadable 0.0" in generate_latest(client.gateway.metrics.registry)
            ),
        )


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


@pytest.mark.slow
def test_after_kills_during_1000_predictions_the_log_has_each_answered_one_once(
    own_environment: Environment,
) -> None:
    process = Process(own_environment)
    process.wait_ready()
    answered: list[str] = []

    def predict(_: int) -> None:
        try:
            answer = process.client.infer("heart")
        except httpx.TransportError:
            return
        assert answer.status_code == 200
        answered.append(answer.headers["x-request-id"])
        if len(answered) == 401:
            process.kill()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(predict, range(1000)))
    assert 400 < len(answered) < 1000
    assert list(own_environment.spool.glob("*.jsonl")), "the kill left nothing to recover"
    successor = Process(own_environment)
    successor.wait_ready()
    after = [successor.client.infer("heart").headers["x-request-id"] for _ in range(10)]
    assert successor.stop() == 0
    process.client.http.close()
    assert len(set(answered + after)) == len(answered) + 10
    with psycopg.connect(own_environment.database_url) as connection:
        logged = [row[0] for row in connection.execute("SELECT request_id FROM prediction_events")]
    assert set(answered + after) <= set(logged)
    assert len(logged) == len(set(logged))
    # Logged but not answered: at most the requests that were running at the kill.
    assert len(logged) - len(answered) - 10 <= 8
    assert not list(own_environment.spool.iterdir())


def test_a_repeated_shipment_changes_nothing(own_environment: Environment) -> None:
    with own_environment.gateway(ship_seconds=3600) as client:
        client.infer("heart")
        (content,) = [path.read_bytes() for path in own_environment.spool.glob("*.jsonl")]
    assert own_environment.count() == 1
    (own_environment.spool / "0.jsonl").write_bytes(content)
    with own_environment.gateway() as client:
        wait_for("the repetition", lambda: not (own_environment.spool / "0.jsonl").exists())
    assert own_environment.count() == 1


@pytest.mark.slow
def test_predictions_continue_without_database_until_the_spool_is_full(
    tmp_path: Path, own_postgres: PostgresServer, issuer: Issuer, predictor: Predictor
) -> None:
    migrate(own_postgres.get_uri())
    environment = Environment(tmp_path / "environment", own_postgres.get_uri(), issuer, predictor)
    environment.model("heart", ("3", 100))
    with environment.gateway(spool_limit=60_000) as client:
        assert client.infer("heart").status_code == 200
        own_postgres.stop()
        assert client.infer("heart").status_code == 200  # an event that is not shipped yet
        wait_for("the failure", lambda: client.gateway.events.shipper.problem)
        answered = [client.infer("heart") for _ in range(20)]
        assert {answer.status_code for answer in answered} == {200}
        ready = client.get("/readyz", who=None)
        assert (ready.status_code, ready.json()["database"]) == (
            200,
            "unavailable, events wait in the spool",
        )
        receipt = client.get(f"/v1/predictions/{answered[0].headers['x-request-id']}")
        assert (receipt.status_code, receipt.headers["retry-after"]) == (503, "5")

        refused = wait_for("the full spool", lambda: _unless_200(client.infer("heart")))
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert "event log is full" in refused.json()["error"]
        spooled = sum(path.read_bytes().count(b"\n") for path in environment.spool.glob("*.jsonl"))

        own_postgres.start()
        wait_for("the return", lambda: client.infer("heart").status_code == 200)
        wait_for("the shipment", lambda: environment.count() > spooled)
        assert (
            client.get(f"/v1/predictions/{answered[0].headers['x-request-id']}").status_code == 200
        )


def _unless_200(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == 200 else answer


@pytest.mark.slow
def test_metrics_count_responses(own_environment: Environment) -> None:
    with running(own_environment) as process:
        process.client.infer("heart")
        process.client.infer("heart", age=-1.0)
        process.client.get("/v1/me", who=None)
        text = httpx.get(
            f"http://127.0.0.1:{process.metrics_port}/metrics", trust_env=False, timeout=SECONDS
        ).text
    lines = set(text.splitlines())
    assert 'slipway_predictions_total{model="heart",outcome="2xx",version="3"} 1.0' in lines
    assert 'slipway_predictions_total{model="heart",outcome="4xx",version="3"} 1.0' in lines
    assert 'slipway_refusals_total{status="401"} 1.0' in lines
    assert 'slipway_prediction_seconds_count{model="heart",version="3"} 2.0' in lines
    assert {"slipway_spool_bytes", "slipway_routes_age_seconds"} <= {
        line.split(" ")[0] for line in lines
    }
