"""The list of predictions: access, filters, pages, and the plans of its queries."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slipway_gateway.eventlog.label_match import short, short_prediction
from slipway_gateway.eventlog.listing import (
    COLUMNS,
    EVENT,
    Labelled,
    Listing,
    Position,
    merged,
    page_query,
)
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.migrate import migrate
from sqlalchemy import ColumnElement, true, tuple_
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW
from tests.support.waiting import wait_for

PATH = "/v1/predictions"
START = datetime(2026, 1, 1, tzinfo=UTC)
INSERT = """
INSERT INTO prediction_events (request_id, time, model, version, digest, role, subject, decision,
    protocol, status, latency_ms, request, response)
SELECT 'r-' || n, '2026-01-01Z'::timestamptz + n / {ties} * interval '1 s', 'm-' || n % {models},
    (1 + n % 2)::text, 'sha256:x', 'live', 'user:u' || n % {subjects}, 'predict:user', 'v2',
    CASE WHEN n % 7 = 0 THEN 500 ELSE 200 END, 1.5, 'secret',
    '{{"outputs": [{{"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}}]}}'
FROM generate_series(1, {rows}) n
"""


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("lungs", ("2", 100))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("DELETE FROM grants WHERE grantee = 'group:scientist'")
        connection.execute("INSERT INTO grants VALUES ('sam', 'user:sam', 'heart', 'default')")
        connection.execute("INSERT INTO grants VALUES ('night', 'client:night', '*', 'default')")
    return environment


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture(scope="module")
def sam(environment: Environment) -> str:
    return environment.issuer.token("sam", "scientist")


@pytest.fixture(scope="module")
def night(environment: Environment) -> str:
    claims = environment.issuer.claims("night", client_id="night")
    return environment.issuer.sign({**claims, "groups": []})


def predict(client: Client, who: str, model: str = "heart") -> str:
    answer = client.post(f"/v1/models/{model}/predictions", {"instances": [ROW]}, who)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["requestId"])


@pytest.fixture(scope="module")
def made(client: Client, night: str) -> dict[str, str]:
    """Provide the ids of predictions of several callers and models, oldest first."""
    return {
        "ada heart": predict(client, "ada"),
        "ada lungs": predict(client, "ada", "lungs"),
        "bob heart": predict(client, "bob"),
        "night lungs": predict(client, night, "lungs"),
    }


def listed(client: Client, who: str, query: str = "") -> list[Any]:
    answer = client.get(f"{PATH}?{query}", who)
    assert answer.status_code == 200, answer.text
    return [each["requestId"] for each in answer.json()["predictions"]]


def test_a_caller_lists_what_its_role_may_read(
    client: Client, made: dict[str, str], sam: str, night: str
) -> None:
    names = {request_id: name for name, request_id in made.items()}

    def seen(who: str, query: str = "") -> list[str]:
        return [names[each] for each in listed(client, who, query) if each in names]

    assert seen("ada") == ["ada lungs", "ada heart"]
    assert seen(night) == ["night lungs"]
    assert seen(sam) == ["bob heart", "ada heart"]
    assert seen("root") == list(reversed(made))
    assert seen("ada", "model=lungs&caller=ada") == ["ada lungs"]
    assert seen(sam, "caller=bob") == ["bob heart"]
    assert seen(sam, "model=lungs") == seen(sam, "caller=client:night") == []
    assert seen("root", "model=lungs") == ["night lungs", "ada lungs"]
    assert seen("root", "caller=ada&model=heart") == ["ada heart"]
    own = predict(client, sam)
    assert listed(client, sam).count(own) == 1, "own and of a granted model"


@pytest.mark.parametrize("who", ["ada", "night"])
def test_another_caller_requires_a_role(
    client: Client, request: pytest.FixtureRequest, who: str
) -> None:
    token = request.getfixturevalue("night") if who == "night" else who
    answer = client.get(f"{PATH}?caller=bob", token)
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        "caller requires the role scientist or admin; omit it to list your own predictions",
    )
    assert client.get(PATH, None).status_code == 401


def test_an_entry_has_prediction_and_label_and_no_inputs(client: Client) -> None:
    since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    right, wrong, plain = (predict(client, "dora") for _ in range(3))
    feedback = "/v1/predictions/{}/feedback"
    client.post(feedback.format(right), {"label": 0}, "dora")
    client.post(feedback.format(right), {"label": 1}, "dora")
    client.post(feedback.format(right), {"comment": "no label"}, "dora")
    client.post(feedback.format(wrong), {"label": 0}, "dora")
    receipt = client.get(f"{PATH}/{right}", "dora").json()
    answer = client.get(f"{PATH}?since={since}&until=2999-01-01T00:00:00Z", "dora")
    entries = answer.json()["predictions"]
    assert entries[2] == {
        **{
            name: receipt[name]
            for name in (
                "requestId",
                "time",
                "model",
                "version",
                "role",
                "status",
                "latencyMs",
                "caller",
            )
        },
        "prediction": 1,
        "label": 1,
        "correct": True,
    }
    assert [(each["label"], each["correct"]) for each in entries] == [
        (None, None),
        (0, False),
        (1, True),
    ]
    assert "chol" not in answer.text
    for kind, found in {
        "none": [plain],
        "any": [wrong, right],
        "correct": [right],
        "incorrect": [wrong],
    }.items():
        assert listed(client, "dora", f"since={since}&label={kind}") == found
    assert listed(client, "dora", f"until={since}") == []


def test_a_status_is_a_filter_by_number_and_by_class(
    client: Client, environment: Environment
) -> None:
    bad = predict(client, "eve")
    predict(client, "eve")
    assert len(listed(client, "eve")) == 2
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("UPDATE prediction_events SET status = 422 WHERE request_id = %s", [bad])
    for query, found in (("status=4xx", [bad]), ("status=422", [bad]), ("status=5xx", [])):
        assert listed(client, "eve", f"model=heart&{query}") == found
    assert len(listed(client, "eve", "status=2xx&version=3")) == 1
    assert listed(client, "eve", "version=9") == []


def test_long_responses_and_labels_are_left_out(client: Client, environment: Environment) -> None:
    """Read little of a page of 500: neither may occupy the event loop."""
    made = predict(client, "lena")
    client.post(f"{PATH}/{made}/feedback", {"label": 1}, "lena")
    (entry,) = client.get(PATH, "lena").json()["predictions"]
    assert (entry["prediction"], entry["label"]) == (1, 1)
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(
            "UPDATE feedback SET label = to_jsonb(repeat('x', 3000)) WHERE request_id = %s", [made]
        )
        connection.execute(
            "UPDATE prediction_events SET response = response || repeat(' ', 3000) "
            "WHERE request_id = %s",
            [made],
        )
    (entry,) = client.get(f"{PATH}?label=any", "lena").json()["predictions"]
    assert (entry["prediction"], entry["label"], entry["correct"]) == (None, None, True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "status=600",
        "status=abc",
        "label=maybe",
        "cursor=",
        "cursor=!",
        "cursor=%C3%A9",
        "cursor=bm90IGEgdGltZQ",
        "cursor=MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMCB4",
        "model=%00",
        "caller=%00",
        "caller=",
        "since=1",
        "since=2026-01-02T00:00:00Z&until=2026-01-02T00:00:00Z",
    ],
)
def test_an_invalid_query_is_rejected(client: Client, query: str) -> None:
    answer = client.get(f"{PATH}?{query}", "root")
    assert answer.status_code == 422, answer.text


def test_a_cursor_survives_its_text_form() -> None:
    position = Position(START + timedelta(microseconds=7), "request id with spaces")
    assert Position.of_cursor(position.cursor) == position


def test_long_outputs_are_shortened() -> None:
    assert short(list(range(9))) == [0, 1, 2, 3, 4]
    assert short(["x" * 1000]) == "x" * 100
    nested: Any = 1
    for _ in range(900):
        nested = [nested, 1]
    assert short(nested) == [None, 1]
    assert short([[1, 2], [3]]) == ["[1,2]", "[3]"]
    assert short({"a": "b"}) == '{"a":"b"}'
    outputs = '{"outputs": [{"name": "p", "data": [0.1]}, {"name": "label", "data": ["N", "V"]}]}'
    assert short_prediction(outputs) == ["N", "V"]
    assert [short_prediction(each) for each in (None, "no JSON", '{"outputs": [{}]}')] == [None] * 3


class Log:
    """An event log with many rows, and a listing that examines few of them per page."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as connection:
            connection.execute(INSERT.format(ties=5, models=4, subjects=3, rows=100))
            connection.execute(
                "INSERT INTO feedback (feedback_id, request_id, time, subject, label, rows, "
                "correct) SELECT 'f-' || n, 'r-' || n, now(), 'user:u0', '1', 1, n % 2 "
                "FROM generate_series(1, 100, 3) n"
            )

    def run(self, walk: Callable[[Listing], Coroutine[Any, Any, list[str]]]) -> list[str]:
        async def within() -> list[str]:
            database = Database(self.url)
            try:
                return await walk(Listing(database, examined=17))
            finally:
                await database.close()

        return asyncio.run(within())


@pytest.fixture(scope="module")
def log(new_environment: Callable[[], Environment]) -> Log:
    return Log(new_environment().database_url)


Conditions = Sequence[tuple[ColumnElement[bool], str]]
SCOPES: Sequence[Conditions] = [
    [(true(), "true")],
    [(EVENT.subject == "user:u1", "subject = 'user:u1'")],
    [(EVENT.model == f"m-{number}", f"model = 'm-{number}'") for number in (0, 2)],
    [
        (EVENT.subject == "user:u1", "subject = 'user:u1'"),
        (EVENT.model == "m-1", "model = 'm-1'"),
    ],
]
FILTERS: Sequence[Conditions] = [
    [],
    [(EVENT.status == 500, "status = 500")],
    [(EVENT.version == "2", "version = '2'"), (EVENT.model == "m-1", "model = 'm-1'")],
]
BOUNDS: Sequence[Conditions] = [
    [],
    [(EVENT.time < START + timedelta(seconds=10), "time < '2026-01-01 00:00:10Z'")],
]
LABELS = {
    None: "true",
    Labelled.ANY: "request_id IN (SELECT request_id FROM feedback)",
    Labelled.NONE: "request_id NOT IN (SELECT request_id FROM feedback)",
    Labelled.CORRECT: "request_id IN (SELECT request_id FROM feedback WHERE correct = 1)",
    Labelled.INCORRECT: "request_id IN (SELECT request_id FROM feedback WHERE correct = 0)",
}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    scopes=st.sampled_from(SCOPES),
    filters=st.sampled_from(FILTERS),
    bounds=st.sampled_from(BOUNDS),
    labelled=st.sampled_from(list(LABELS)),
    limit=st.integers(4, 60),
)
def test_a_walk_by_cursor_has_each_prediction_once(
    log: Log,
    scopes: Conditions,
    filters: Conditions,
    bounds: Conditions,
    labelled: Labelled | None,
    limit: int,
) -> None:
    async def walk(listing: Listing) -> list[str]:
        found: list[str] = []
        after: Position | None = None
        for _ in range(500):
            page = await listing.page(
                [each for each, _ in scopes],
                [each for each, _ in filters],
                bounds=[each for each, _ in bounds],
                labelled=labelled,
                after=after,
                limit=limit,
            )
            assert len(page.rows) <= limit
            found += [row.request_id for row in page.rows]
            if page.next is None:
                return found
            after = Position.of_cursor(page.next.cursor)
        raise AssertionError("the walk does not end")

    anywhere = " OR ".join(text for _, text in scopes)
    rest = " AND ".join(["true", *(text for _, text in (*filters, *bounds)), LABELS[labelled]])
    with psycopg.connect(log.url) as connection:
        expected = connection.execute(
            f"SELECT request_id FROM prediction_events WHERE ({anywhere}) AND {rest} "  # noqa: S608
            "ORDER BY time DESC, request_id DESC"
        ).fetchall()
    assert log.run(walk) == [request_id for (request_id,) in expected]


def test_the_walk_over_http_has_each_prediction_once(client: Client) -> None:
    expected = [predict(client, "walker") for _ in range(7)]
    found: list[str] = []
    query = "limit=3"
    while True:
        answer = client.get(f"{PATH}?{query}", "walker").json()
        found += [each["requestId"] for each in answer["predictions"]]
        if answer["nextCursor"] is None:
            break
        query = f"limit=3&cursor={answer['nextCursor']}"
    assert found == list(reversed(expected))


@pytest.mark.slow
def test_a_page_reads_few_rows_by_index(new_environment: Callable[[], Environment]) -> None:
    """Explain the page in the middle of 100,000 predictions of many models and callers."""
    after = Position(START + timedelta(seconds=50_000), "r-x")
    position = (EVENT.time, EVENT.request_id)
    with psycopg.connect(new_environment().database_url, autocommit=True) as connection:
        connection.execute(INSERT.format(ties=1, models=50, subjects=100, rows=100_000))
        connection.execute("VACUUM ANALYZE prediction_events")
        for scopes in (
            [true()],
            [EVENT.model == "m-1"],
            [EVENT.model == "unknown"],
            [EVENT.subject == "user:u1"],
            [EVENT.subject == "user:u1", EVENT.model == "m-1", EVENT.model == "m-2"],
        ):
            bounds = [tuple_(*position) < tuple_(after.time, after.request_id)]
            query = page_query(merged(COLUMNS, scopes, bounds, 51), None, 51)
            compiled = query.compile(dialect=postgresql.psycopg.dialect())  # type: ignore[no-untyped-call]
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}"
            explained = connection.execute(explain, compiled.params).fetchone()
            assert explained
            scans = [
                node
                for node in nodes(explained[0][0]["Plan"])
                if node.get("Relation Name") == "prediction_events"
            ]
            assert "Seq Scan" not in {node["Node Type"] for node in scans}
            read = sum(
                node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
                for node in scans
            )
            assert read <= 51 * len(scopes), explained


def nodes(plan: Any) -> Iterator[Any]:
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


def test_a_migration_does_not_wait_long_for_the_lock_of_a_column(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    migrate(url, "0019")
    with psycopg.connect(url) as reader:
        reader.execute("SELECT FROM prediction_events")
        with pytest.raises(OperationalError, match="lock timeout"):
            migrate(url, "0020")
    migrate(url, "0020")


def test_the_indexes_are_built_while_events_are_written(new_database: Callable[[], str]) -> None:
    url = new_database()
    migrate(url, "0022")
    number = "SELECT to_regclass('prediction_events_by_model')::oid"
    with (
        psycopg.connect(url) as writer,
        psycopg.connect(url, autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        assert other.execute("SELECT to_regclass('prediction_events_bodies')").fetchone() == (None,)
        # The first two indexes of an upgrade that was interrupted.
        other.execute(
            "CREATE INDEX prediction_events_by_model ON prediction_events (model, time, request_id)"
        )
        built = other.execute(number).fetchone()
        other.execute("CREATE INDEX prediction_events_by_time ON prediction_events (status)")
        other.execute(
            "UPDATE pg_index SET indisvalid = false "
            "WHERE indexrelid = 'prediction_events_by_time'::regclass"
        )
        row = INSERT.replace("'r-'", "'{name}-'")
        writer.execute(row.format(ties=1, models=1, subjects=1, rows=1, name="a"))
        migration = pool.submit(migrate, url)
        waits = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
            "query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
        )
        wait_for("the build", lambda: other.execute(waits).fetchone() == (1,))
        other.execute("SET lock_timeout = '20s'")
        other.execute(row.format(ties=1, models=1, subjects=1, rows=1, name="b"))
        assert not migration.done()
        writer.commit()
        migration.result(120)
        found = other.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index "
            "WHERE indrelid = 'prediction_events'::regclass ORDER BY 1"
        ).fetchall()
        assert other.execute(number).fetchone() == built
        rebuilt = other.execute(
            "SELECT pg_get_indexdef('prediction_events_by_time'::regclass)"
        ).fetchone()
        assert rebuilt
        assert '("time", request_id)' in rebuilt[0]
    assert found == [
        ("prediction_events_bodies", True),
        ("prediction_events_by_model", True),
        ("prediction_events_by_subject", True),
        ("prediction_events_by_time", True),
        ("prediction_events_pkey", True),
    ]
