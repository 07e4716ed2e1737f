"""Labels of predictions: permissions, storage, accuracy and export."""

import asyncio
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
import psycopg
import pyarrow.parquet as pq
import pytest
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Column
from slipway_contract.v2 import Datatype
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.label_match import judge
from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.postgresql.database import Database

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW, Predictor
from tests.gateway.test_images import SIGNATURE, _predict, file_of, one, send


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("heart", ("3", 100))
        environment.model("lungs", ("2", 100))
        environment.model("digits", ("1", 100), url=predictor.url)
        with psycopg.connect(environment.database_url) as connection:
            connection.execute(
                "INSERT INTO grants VALUES ('nightly', 'client:nightly', 'heart', 'default')"
            )
        yield environment


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway(image_seconds=60) as client:
        yield client


@pytest.fixture(scope="module")
def sam(environment: Environment) -> str:
    return environment.issuer.token("sam", "scientist")


@pytest.fixture(scope="module")
def nightly(environment: Environment) -> str:
    claims = environment.issuer.claims("nightly", client_id="nightly")
    return environment.issuer.sign({**claims, "groups": []})


def predict(client: Client, *rows: dict[str, Any], model: str = "heart") -> str:
    answer = client.post(f"/v1/models/{model}/predictions", {"instances": list(rows or [ROW])})
    assert answer.status_code == 200, answer.text
    return f"/v1/predictions/{answer.json()['requestId']}"


def test_a_service_account_labels_predictions_of_granted_models(
    client: Client, nightly: str
) -> None:
    path = predict(client)
    response = client.post(f"{path}/feedback", {"label": 1}, nightly)
    assert (response.status_code, response.json()["subject"]) == (201, "client:nightly")
    assert client.get(path, nightly).status_code == 404
    assert (
        client.post(f"{predict(client, model='lungs')}/feedback", {"label": 1}, nightly).status_code
        == 404
    )


def test_a_correction_keeps_earlier_feedback(client: Client) -> None:
    path = predict(client)
    for label in (0, 1):
        client.post(f"{path}/feedback", {"label": label})
    history = client.get(f"{path}/feedback").json()["feedback"]
    assert [each["label"] for each in history] == [1, 0]
    assert client.get(path).json()["feedback"] == history[0]
    assert client.get(f"{path}/feedback", "root").json()["feedback"] == history
    assert client.get(f"{path}/feedback", "bob").status_code == 404


@pytest.fixture(scope="module")
def labelled(client: Client) -> tuple[str, dict[str, Any]]:
    """Provide the query of an interval with three of four rows correct, after a correction."""
    since = datetime.now(UTC)
    old = {**ROW, "age": 26}
    first, second, third = predict(client), predict(client, ROW, old, ROW), predict(client)
    client.post(f"{first}/feedback", {"label": 1, "comment": "späte Einsicht"})
    client.post(f"{second}/feedback", {"label": [0, 1, 0]})
    client.post(f"{second}/feedback", {"label": [1, 0, 0]})
    client.post(f"{second}/feedback", {"comment": "no label"})
    client.post(f"{third}/feedback", {"comment": "who knows"})
    query = f"since={since.isoformat().replace('+00:00', 'Z')}"
    return query, {"first": first, "second": second}


def test_accuracy_uses_the_latest_label_of_each_prediction(
    client: Client, labelled: tuple[str, Any], sam: str
) -> None:
    found = client.get(f"/v1/models/heart/accuracy?{labelled[0]}", sam).json()
    (version,) = found["versions"]
    assert {
        name: version[name] for name in ("version", "predictions", "rows", "correct", "accuracy")
    } == {"version": "3", "predictions": 2, "rows": 4, "correct": 3, "accuracy": 0.75}
    assert client.get("/v1/models/heart/accuracy").status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("until=0001-01-01T00:00:00Z", "since"),
        ("until=0001-01-01T00:00:00%2B14:00", "since"),
        ("until=0.5", "until"),
        ("since=2026-01-02T00:00:00", "since"),
    ],
)
def test_an_invalid_time_is_rejected(client: Client, sam: str, query: str, field: str) -> None:
    for path in ("accuracy", "feedback.parquet"):
        answer = client.get(f"/v1/models/heart/{path}?{query}", sam)
        assert (answer.status_code, answer.json()["errors"][0]["field"].split(".")[0]) == (
            422,
            field,
        )


@pytest.mark.usefixtures("labelled")
def test_the_metric_counts_correct_and_incorrect_rows(client: Client) -> None:
    value = client.gateway.metrics.registry.get_sample_value
    names = {"model": "heart", "version": "3"}
    assert (value("slipway_labelled_rows_total", {**names, "outcome": "right"}) or 0) >= 3
    assert (value("slipway_labelled_rows_total", {**names, "outcome": "wrong"}) or 0) >= 3


@pytest.mark.slow
def test_labels_are_exported_as_parquet(
    client: Client, labelled: tuple[str, Any], sam: str
) -> None:
    answer = client.get(f"/v1/models/heart/feedback.parquet?{labelled[0]}", sam)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "application/vnd.apache.parquet",
    )
    rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    assert [f"/v1/predictions/{row['request_id']}" for row in rows] == [
        labelled[1]["first"],
        labelled[1]["second"],
    ]
    assert [(row["label"], row["rows"], row["correct"]) for row in rows] == [
        ("1", 1, 1),
        ("[1, 0, 0]", 3, 2),
    ]
    assert rows[0]["comment"] == "späte Einsicht"
    assert '"inputs"' in rows[0]["request"]
    assert "subject" not in rows[0]


def test_an_empty_export_is_an_empty_table_and_requires_the_role_scientist(
    client: Client, sam: str
) -> None:
    path = "/v1/models/heart/feedback.parquet?until=2020-01-01T00:00:00Z"
    assert pq.read_table(io.BytesIO(client.get(path, sam).content)).num_rows == 0
    assert client.get(path).status_code == 403
    assert client.get("/v1/models/unknown/feedback.parquet", sam).status_code == 404


@pytest.mark.slow
def test_an_export_is_written_in_groups(client: Client, environment: Environment, sam: str) -> None:
    """Export 500 predictions of half a megabyte each, in several row groups."""
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(
            "INSERT INTO prediction_events SELECT 'many-' || n, '2021-01-01Z'::timestamptz + "
            "n * interval '1 s', 'heart', '2',"
            " 'sha256:x', NULL, 'live', 'ada', 'predict:user', 'v2', 200, 1, repeat('x', "
            "1000), NULL"
            " FROM generate_series(1, 500) n"
        )
        connection.execute(
            "INSERT INTO feedback (feedback_id, request_id, time, subject, label)"
            " SELECT 'f-' || n, 'many-' || n, now(), 'ada', to_jsonb(n) FROM "
            "generate_series(1, 500) n"
        )
    path = "/v1/models/heart/feedback.parquet?since=2021-01-01T00:00:00Z&until=2021-02-01T00:00:00Z"
    file = pq.ParquetFile(io.BytesIO(client.get(path, sam).content))
    assert file.num_row_groups == 3
    assert file.read(["label"]).column("label").to_pylist() == [str(n) for n in range(1, 501)]


@pytest.mark.slow
def test_an_export_connects_with_the_user_of_the_environment_as_the_gateway_does(
    environment: Environment, labelled: tuple[str, Any], sam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use a URL without user and password, as the chart does; libpq reads both from variables."""
    parts = urlsplit(environment.database_url)
    monkeypatch.setenv("PGUSER", parts.username or "")
    monkeypatch.setenv("PGPASSWORD", "any: the test's server trusts local users")
    with environment.gateway(
        database_url=f"postgresql://{parts.path}?{parts.query}",
        spool=environment.folder / "another",
    ) as client:
        answer = client.get(f"/v1/models/heart/feedback.parquet?{labelled[0]}", sam)
    assert answer.status_code == 200, answer.text
    assert pq.read_table(io.BytesIO(answer.content)).num_rows > 0


def test_a_failed_export_gets_503(environment: Environment, sam: str) -> None:
    with environment.gateway() as client, psycopg.connect(environment.database_url) as connection:
        client.get("/v1/me", sam)
        connection.execute("ALTER TABLE feedback RENAME COLUMN correct TO hidden")
        connection.commit()
        try:
            answer = client.get("/v1/models/heart/feedback.parquet", sam)
        finally:
            connection.execute("ALTER TABLE feedback RENAME COLUMN hidden TO correct")
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "the export failed; the log of the gateway has the error",
    )


def test_uploaded_images_are_stored_with_their_prediction(client: Client, sam: str) -> None:
    one_file, other = file_of(one((40, 40))), file_of(one((40, 40)), "GIF")
    answer = send(client, one_file, other, one_file)
    path = f"/v1/predictions/{answer.json()['requestId']}"
    kept = client.get(path).json()["images"]
    assert [each["digest"] for each in kept] == [
        kept[0]["digest"],
        kept[1]["digest"],
        kept[0]["digest"],
    ]
    for who in ("ada", sam, "root"):
        image = client.get(kept[1]["url"], who)
        assert (image.content, image.headers["content-type"]) == (other, "image/gif")
        assert image.headers["slipway-digest"] == kept[1]["digest"]
        assert image.headers["content-security-policy"] == "sandbox"
    assert client.get(kept[1]["url"], "bob").status_code == 404
    assert client.get(f"{path}/images/9").status_code == 404


def test_images_are_deleted_after_their_days(client: Client, environment: Environment) -> None:
    shared, alone = file_of(one((30, 30))), file_of(one((31, 31)))
    old, new = (send(client, *files).json()["requestId"] for files in ([shared, alone], [shared]))
    with psycopg.connect(environment.database_url) as connection:
        long_ago = datetime.now(UTC) - timedelta(days=31)
        connection.execute(
            "UPDATE prediction_images SET time = %s WHERE request_id = %s", [long_ago, old]
        )
        connection.execute("UPDATE images SET time = %s", [long_ago])
    asyncio.run(_sweep(environment))
    assert client.get(f"/v1/predictions/{old}").json()["images"] == []
    (kept,) = client.get(f"/v1/predictions/{new}").json()["images"]
    assert client.get(kept["url"]).content == shared
    with psycopg.connect(environment.database_url) as connection:
        assert connection.execute(
            "SELECT count(*) FROM images WHERE content = %s", [alone]
        ).fetchone() == (0,)


async def _sweep(environment: Environment) -> None:
    database = Database(environment.database_url)
    await ImageStore(database, Storage(database, per_caller=2**30, limit=2**30), days=30).sweep()
    await database.close()


def test_no_image_is_stored_with_zero_days(environment: Environment) -> None:
    with environment.gateway(image_days=0, image_seconds=60) as client:
        request_id = send(client, file_of(one((33, 33)))).json()["requestId"]
        assert client.get(f"/v1/predictions/{request_id}").json()["images"] == []


LABEL = {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}
SICK = Column(name="label", datatype=Datatype.INT64, codes={0: "healthy", 1: "sick"})
SCORE = Column(name="score", datatype=Datatype.FP32, minimum=0, maximum=1)
TEXT = Column(name="label", datatype=Datatype.BYTES, max_length=1)
FLAG = Column(name="label", datatype=Datatype.BOOL)
UNITS = Column(name="units", datatype=Datatype.FP32, minimum=0)
VECTOR = Column(name="label", datatype=Datatype.INT64, shape=(2,))


@pytest.mark.parametrize(
    ("columns", "outputs", "label", "expected"),
    [
        ([SICK], [LABEL], [1, 1], ([1, 1], 2, 1)),
        ([SICK], [{**LABEL, "shape": [2, 1]}], [1, 0], ([1, 0], 2, 2)),
        (
            [SCORE, SICK],
            [{**LABEL, "name": "score", "datatype": "FP32"}, LABEL],
            [1, 0],
            ([1, 0], 2, 2),
        ),
        ([SICK], [LABEL], ["1", 0.0], ([1, 0], 2, 2)),
        ([SICK], [LABEL], [True, False], ([1, 0], 2, 2)),
        ([SICK], [{**LABEL, "shape": [1], "data": [1]}], "1.0", (1, 1, 1)),
        ([SICK], [{**LABEL, "shape": [1], "data": [1]}], True, (1, 1, 1)),
        (
            [FLAG],
            [{**LABEL, "datatype": "BOOL", "data": [True, False]}],
            [1, "FALSE"],
            ([True, False], 2, 2),
        ),
        (
            [TEXT],
            [{**LABEL, "datatype": "BYTES", "data": ["N", "V"]}],
            ["N", "other"],
            (["N", "other"], 2, 1),
        ),
        (
            [UNITS],
            [{**LABEL, "name": "units", "datatype": "FP32"}],
            ["-1.5", 0],
            ([-1.5, 0], None, None),
        ),
        (
            [SCORE, SICK],
            [{**LABEL, "name": "score", "datatype": "FP32"}],
            [1, "0"],
            ([1, 0], None, None),
        ),
        ([SICK], [LABEL], None, (None, None, None)),
        (
            [VECTOR],
            [{**LABEL, "shape": [2, 2], "data": [1, 0, 0, 0]}],
            "anything",
            ("anything", None, None),
        ),
        ([], [LABEL], ["1", 1], ([1, 1], 2, 1)),
        ([], [], "anything", ("anything", None, None)),
    ],
)
def test_a_label_is_normalized_and_compared_row_by_row_where_it_can_be(
    columns: list[Column], outputs: Any, label: Any, expected: Any
) -> None:
    found = judge(columns, orjson.dumps({"outputs": outputs}).decode(), label)
    assert found == expected
    assert orjson.dumps(found.label) == orjson.dumps(expected[0]), "1 and true differ in JSON"


@pytest.mark.parametrize(
    ("column", "datatype", "label", "error"),
    [
        (SICK, "INT64", [1, 7], "label: 7 is not one of the codes 0, 1"),
        (
            SICK,
            "INT64",
            [1, "sick"],
            "label: 'sick' is not INT64; send one of 0 (healthy), 1 (sick)",
        ),
        (SICK, "INT64", [1, 0.5], "label: value 1 is 0.5 (float); INT64 is expected"),
        (SICK, "INT64", [1, None], "label: value 1 is null (missing); INT64 is expected"),
        (SICK, "INT64", [1, [0]], "label: value 1 is [0] (list); INT64 is expected"),
        (
            SICK,
            "INT64",
            1,
            "label: has 1 values; the prediction has 2 rows: send a list with one for each",
        ),
        (
            SICK,
            "INT64",
            [1, 0, 1],
            "label: has 3 values; the prediction has 2 rows: send a list with one for each",
        ),
        (FLAG, "BOOL", [True, "yes"], "label: 'yes' is not BOOL; write true or false"),
        (TEXT, "BYTES", ["N", 1], "label: value 1 is 1 (int); BYTES is expected"),
        (
            UNITS,
            "FP32",
            [1, "1,5"],
            (
                "label: '1,5' is not FP32; write a point before decimals, and nothing between "
                "thousands"
            ),
        ),
    ],
)
def test_a_label_that_the_version_cannot_predict_is_rejected(
    column: Column, datatype: str, label: Any, error: str
) -> None:
    response = orjson.dumps(
        {"outputs": [{**LABEL, "name": column.name, "datatype": datatype}]}
    ).decode()
    with pytest.raises(InvalidInput) as refused:
        judge([column], response, label)
    assert str(refused.value) == error


@pytest.mark.parametrize("response", [None, "no JSON", "[]", "{}", '{"outputs": [1]}'])
def test_a_missing_response_matches_no_label(response: str | None) -> None:
    assert judge([SICK], response, "1") == (1, None, None)
    with pytest.raises(InvalidInput):
        judge([SICK], response, "7")


def test_a_label_of_another_type_is_normalized_or_gets_422(client: Client, sam: str) -> None:
    def counted() -> tuple[int, int]:
        query = f"since={since.isoformat().replace('+00:00', 'Z')}"
        versions = client.get(f"/v1/models/heart/accuracy?{query}", sam).json()["versions"]
        return sum(each["rows"] for each in versions), sum(each["correct"] for each in versions)

    since = datetime.now(UTC)
    for label, status in (
        (1, 201),
        ("1", 201),
        (True, 201),
        (1.0, 201),
        ("one", 422),
        (0.5, 422),
        ([1, 1], 422),
    ):
        before, response = counted(), client.post(f"{predict(client)}/feedback", {"label": label})
        assert (response.status_code, label) == (status, label)
        if status == 201:
            assert orjson.dumps(response.json()["label"]) == b"1"
            assert counted() == (before[0] + 1, before[1] + 1)
        else:
            assert response.json()["errors"][0]["field"] == "label"
            assert counted() == before
