"""What becomes known after predictions: who may say it, what is kept of it, and who may read it."""

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
from slipway_gateway.postgresql.database import Database
from slipway_gateway.records.album import Album
from slipway_gateway.records.storage import Storage
from slipway_gateway.records.verdict import verdict

from tests.gateway.house import House, Visitor
from tests.gateway.predictor import ROW, Predictor
from tests.gateway.test_pictures import SIGNATURE, _predict, file_of, one, send


@pytest.fixture(scope="module")
def house(new_house: Callable[[], House]) -> Iterator[House]:
    with Predictor(SIGNATURE, _predict) as predictor:
        house = new_house()
        house.model("heart", ("3", 100))
        house.model("lungs", ("2", 100))
        house.model("digits", ("1", 100), url=predictor.url)
        with psycopg.connect(house.database_url) as connection:
            connection.execute("INSERT INTO grants VALUES ('nightly', 'client:nightly', 'heart', 'default')")
        yield house


@pytest.fixture(scope="module")
def visitor(house: House) -> Iterator[Visitor]:
    with house.gateway(picture_seconds=60) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def sam(house: House) -> str:
    return house.issuer.token("sam", "scientist")


@pytest.fixture(scope="module")
def nightly(house: House) -> str:
    claims = house.issuer.claims("nightly", client_id="nightly")
    return house.issuer.sign({**claims, "groups": []})


def predict(visitor: Visitor, *rows: dict[str, Any], model: str = "heart") -> str:
    answer = visitor.post(f"/v1/models/{model}/predictions", {"instances": list(rows or [ROW])})
    assert answer.status_code == 200, answer.text
    return f"/v1/predictions/{answer.json()['requestId']}"


def test_a_service_account_labels_the_predictions_of_models_that_are_granted_to_it(visitor: Visitor, nightly: str) -> None:
    path = predict(visitor)
    said = visitor.post(f"{path}/feedback", {"label": 1}, nightly)
    assert (said.status_code, said.json()["subject"]) == (201, "client:nightly")
    assert visitor.get(path, nightly).status_code == 404
    assert visitor.post(f"{predict(visitor, model='lungs')}/feedback", {"label": 1}, nightly).status_code == 404


def test_a_correction_leaves_what_was_said_before(visitor: Visitor) -> None:
    path = predict(visitor)
    for label in (0, 1):
        visitor.post(f"{path}/feedback", {"label": label})
    history = visitor.get(f"{path}/feedback").json()["feedback"]
    assert [each["label"] for each in history] == [1, 0]
    assert visitor.get(path).json()["feedback"] == history[0]
    assert visitor.get(f"{path}/feedback", "root").json()["feedback"] == history
    assert visitor.get(f"{path}/feedback", "bob").status_code == 404


@pytest.fixture(scope="module")
def labelled(visitor: Visitor) -> tuple[str, dict[str, Any]]:
    """A query for a time of its own, in which three of four rows were right, after a correction."""
    since = datetime.now(UTC)
    old = {**ROW, "age": 26}
    first, second, third = predict(visitor), predict(visitor, ROW, old, ROW), predict(visitor)
    visitor.post(f"{first}/feedback", {"label": 1, "comment": "späte Einsicht"})
    visitor.post(f"{second}/feedback", {"label": [0, 1, 0]})
    visitor.post(f"{second}/feedback", {"label": [1, 0, 0]})
    visitor.post(f"{second}/feedback", {"comment": "no label"})
    visitor.post(f"{third}/feedback", {"comment": "who knows"})
    query = f"since={since.isoformat().replace('+00:00', 'Z')}"
    return query, {"first": first, "second": second}


def test_accuracy_is_of_the_latest_label_of_each_prediction(visitor: Visitor, labelled: tuple[str, Any], sam: str) -> None:
    said = visitor.get(f"/v1/models/heart/accuracy?{labelled[0]}", sam).json()
    (version,) = said["versions"]
    assert {name: version[name] for name in ("version", "predictions", "rows", "correct", "accuracy")} == {
        "version": "3",
        "predictions": 2,
        "rows": 4,
        "correct": 3,
        "accuracy": 0.75,
    }
    assert visitor.get("/v1/models/heart/accuracy").status_code == 403


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
def test_a_time_that_is_none_is_refused(visitor: Visitor, sam: str, query: str, field: str) -> None:
    for path in ("accuracy", "feedback.parquet"):
        answer = visitor.get(f"/v1/models/heart/{path}?{query}", sam)
        assert (answer.status_code, answer.json()["errors"][0]["field"].split(".")[0]) == (422, field)


@pytest.mark.usefixtures("labelled")
def test_the_metric_counts_right_and_wrong_rows(visitor: Visitor) -> None:
    value = visitor.gateway.metrics.registry.get_sample_value
    names = {"model": "heart", "version": "3"}
    assert (value("slipway_labelled_rows_total", {**names, "outcome": "right"}) or 0) >= 3
    assert (value("slipway_labelled_rows_total", {**names, "outcome": "wrong"}) or 0) >= 3


def test_labels_are_exported_as_parquet(visitor: Visitor, labelled: tuple[str, Any], sam: str) -> None:
    answer = visitor.get(f"/v1/models/heart/feedback.parquet?{labelled[0]}", sam)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/vnd.apache.parquet")
    rows = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    assert [f"/v1/predictions/{row['request_id']}" for row in rows] == [labelled[1]["first"], labelled[1]["second"]]
    assert [(row["label"], row["rows"], row["correct"]) for row in rows] == [("1", 1, 1), ("[1, 0, 0]", 3, 2)]
    assert rows[0]["comment"] == "späte Einsicht"
    assert '"inputs"' in rows[0]["request"]
    assert "subject" not in rows[0]


def test_an_export_of_nothing_is_an_empty_table_and_only_for_scientists(visitor: Visitor, sam: str) -> None:
    path = "/v1/models/heart/feedback.parquet?until=2020-01-01T00:00:00Z"
    assert pq.read_table(io.BytesIO(visitor.get(path, sam).content)).num_rows == 0
    assert visitor.get(path).status_code == 403
    assert visitor.get("/v1/models/nobody/feedback.parquet", sam).status_code == 404


def test_an_export_is_written_in_groups(visitor: Visitor, house: House, sam: str) -> None:
    """500 predictions of half a megabyte together with their labels, in several groups of rows."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "INSERT INTO prediction_events SELECT 'many-' || n, '2021-01-01Z'::timestamptz + n * interval '1 s', 'heart', '2',"
            " 'sha256:x', NULL, 'live', 'ada', 'predict:user', 'v2', 200, 1, repeat('x', 1000), NULL"
            " FROM generate_series(1, 500) n"
        )
        connection.execute(
            "INSERT INTO feedback (feedback_id, request_id, time, subject, label)"
            " SELECT 'f-' || n, 'many-' || n, now(), 'ada', to_jsonb(n) FROM generate_series(1, 500) n"
        )
    path = "/v1/models/heart/feedback.parquet?since=2021-01-01T00:00:00Z&until=2021-02-01T00:00:00Z"
    file = pq.ParquetFile(io.BytesIO(visitor.get(path, sam).content))
    assert file.num_row_groups == 3
    assert file.read(["label"]).column("label").to_pylist() == [str(n) for n in range(1, 501)]


def test_an_export_connects_with_the_user_of_the_environment_as_the_gateway_does(
    house: House, labelled: tuple[str, Any], sam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart gives a URL without user and password, and both in variables that libpq reads."""
    parts = urlsplit(house.database_url)
    monkeypatch.setenv("PGUSER", parts.username or "")
    monkeypatch.setenv("PGPASSWORD", "any: the test's server trusts local users")
    with house.gateway(database_url=f"postgresql://{parts.path}?{parts.query}", spool=house.folder / "another") as visitor:
        answer = visitor.get(f"/v1/models/heart/feedback.parquet?{labelled[0]}", sam)
    assert answer.status_code == 200, answer.text
    assert pq.read_table(io.BytesIO(answer.content)).num_rows > 0


def test_an_export_that_cannot_be_made_is_answered_503(house: House, sam: str) -> None:
    with house.gateway() as visitor, psycopg.connect(house.database_url) as connection:
        visitor.get("/v1/me", sam)
        connection.execute("ALTER TABLE feedback RENAME COLUMN correct TO hidden")
        connection.commit()
        try:
            answer = visitor.get("/v1/models/heart/feedback.parquet", sam)
        finally:
            connection.execute("ALTER TABLE feedback RENAME COLUMN hidden TO correct")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the export broke off")


def test_uploaded_pictures_are_kept_with_their_prediction(visitor: Visitor, sam: str) -> None:
    one_file, other = file_of(one((40, 40))), file_of(one((40, 40)), "GIF")
    answer = send(visitor, one_file, other, one_file)
    path = f"/v1/predictions/{answer.json()['requestId']}"
    kept = visitor.get(path).json()["pictures"]
    assert [each["digest"] for each in kept] == [kept[0]["digest"], kept[1]["digest"], kept[0]["digest"]]
    for who in ("ada", sam, "root"):
        picture = visitor.get(kept[1]["url"], who)
        assert (picture.content, picture.headers["content-type"]) == (other, "image/gif")
        assert picture.headers["slipway-digest"] == kept[1]["digest"]
        assert picture.headers["content-security-policy"] == "sandbox"
    assert visitor.get(kept[1]["url"], "bob").status_code == 404
    assert visitor.get(f"{path}/pictures/9").status_code == 404


def test_pictures_go_after_their_days(visitor: Visitor, house: House) -> None:
    shared, alone = file_of(one((30, 30))), file_of(one((31, 31)))
    old, new = (send(visitor, *files).json()["requestId"] for files in ([shared, alone], [shared]))
    with psycopg.connect(house.database_url) as connection:
        long_ago = datetime.now(UTC) - timedelta(days=31)
        connection.execute("UPDATE prediction_pictures SET time = %s WHERE request_id = %s", [long_ago, old])
        connection.execute("UPDATE pictures SET time = %s", [long_ago])
    asyncio.run(_sweep(house))
    assert visitor.get(f"/v1/predictions/{old}").json()["pictures"] == []
    (kept,) = visitor.get(f"/v1/predictions/{new}").json()["pictures"]
    assert visitor.get(kept["url"]).content == shared
    with psycopg.connect(house.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pictures WHERE content = %s", [alone]).fetchone() == (0,)


async def _sweep(house: House) -> None:
    database = Database(house.database_url)
    await Album(database, Storage(database, per_caller=2**30, limit=2**30), days=30).sweep()
    await database.close()


def test_none_is_kept_when_that_is_asked_for(house: House) -> None:
    with house.gateway(picture_days=0, picture_seconds=60) as visitor:
        request_id = send(visitor, file_of(one((33, 33)))).json()["requestId"]
        assert visitor.get(f"/v1/predictions/{request_id}").json()["pictures"] == []


LABEL = {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}


@pytest.mark.parametrize(
    ("outputs", "label", "expected"),
    [
        ([LABEL], [1, 1], (2, 1)),
        ([{**LABEL, "shape": [2, 1]}], [1, 0], (2, 2)),
        ([{**LABEL, "name": "score", "datatype": "FP32"}, LABEL], [1, 0], (2, 2)),
        ([{**LABEL, "datatype": "BYTES", "data": ["N", "V"]}], ["N", "S"], (2, 1)),
        ([LABEL], [True, False], (2, 0)),
        ([LABEL], 1, (None, None)),
        ([LABEL], None, (None, None)),
        ([{**LABEL, "name": "units", "datatype": "FP32"}], [1, 0], (None, None)),
        ([{**LABEL, "data": [1, 0, 0, 0]}], [1, 0], (None, None)),
        ([], 1, (None, None)),
    ],
)
def test_a_label_is_compared_row_by_row_where_it_can_be(outputs: Any, label: Any, expected: Any) -> None:
    assert verdict(orjson.dumps({"outputs": outputs}).decode(), label) == expected


@pytest.mark.parametrize("response", [None, "no JSON", "[]", "{}", '{"outputs": [1]}'])
def test_an_answer_that_is_not_there_confirms_nothing(response: str | None) -> None:
    assert verdict(response, 1) == (None, None)
