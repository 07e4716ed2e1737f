"""Batches over HTTP. The local cluster runs the real Job, which calls a predictor."""

import copy
import csv
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg.sql import SQL, Identifier
from slipway.errors import CorruptTable
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, InferenceRequest
from slipway_jobs.batches import predictor as predictors
from slipway_jobs.batches.batch import predict_batch
from slipway_jobs.batches.batch_store import BatchStore
from slipway_jobs.errors import BatchError
from slipway_jobs.settings import Settings
from slipway_local.standin.job import Backoff
from slipway_local.standin.kubelet import Image, Kubelet, KubeletOptions

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW, Predictor
from tests.support.waiting import wait_for

BIN = Path(__file__).parents[2] / ".venv" / "bin"
ENDS = ("succeeded", "failed")
PATIENCE = 300.0
"""Timeout in seconds, which includes the start of a Job that imports Arrow."""
TEMPLATE: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "batch"},
    "spec": {
        "schedule": "@yearly",
        "suspend": True,
        "jobTemplate": {
            "spec": {
                "backoffLimit": 6,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [
                            {
                                "name": "job",
                                "image": "jobs",
                                "command": ["python", "-m", "slipway_jobs", "batch"],
                            }
                        ],
                    }
                },
            }
        },
    },
}


@pytest.fixture(scope="module")
def slow() -> Iterator[Predictor]:
    with Predictor() as predictor:
        yield predictor


@pytest.fixture(scope="module")
def works(new_environment: Callable[[], Environment], slow: Predictor) -> Iterator[Environment]:
    environment = new_environment()
    environment.model("heart", ("3", 90), ("4", 10))
    environment.model("slow", ("1", 100), url=slow.url)
    environment.cluster.apply(TEMPLATE)
    env = {
        "SLIPWAY_DATABASE_URL": environment.database_url,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    }
    stop, options = (
        threading.Event(),
        KubeletOptions(turn_seconds=0.1, backoff=Backoff(first=0.1, longest=1)),
    )
    kubelet = Kubelet(
        environment.folder / "cluster",
        {"jobs": Image(BIN, env, environment.folder)},
        options=options,
    )
    thread = threading.Thread(target=kubelet.run, args=(stop,))
    thread.start()
    yield environment
    stop.set()
    thread.join()


@pytest.fixture(scope="module")
def client(works: Environment) -> Iterator[Client]:
    with works.gateway(batch_limit=200_000) as client:
        yield client


def upload(
    client: Client, content: bytes, who: str = "ada", model: str = "heart", key: str | None = None
) -> httpx.Response:
    headers = client._headers(who) | ({"Idempotency-Key": key} if key else {})
    files = {"note": (None, b"mine"), "file": ("rows.csv", content)}
    return client.http.post(f"/v1/models/{model}/batches", files=files, headers=headers)


def serve(client: Client, model: str, predictor: Predictor) -> None:
    """Declare the model and wait until the gateway routes to it."""
    client.environment.model(model, ("1", 100), url=predictor.url)
    wait_for(f"model {model}", lambda: client.get(f"/v2/models/{model}").status_code == 200)


def ended(client: Client, answer: httpx.Response) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        seen: dict[str, Any] = client.get(answer.headers["location"]).json()
        return seen if seen["state"] in ENDS else None

    assert answer.status_code == 202, answer.text
    return wait_for("the end of the batch", look, PATIENCE)


def result(client: Client, answer: httpx.Response) -> list[dict[str, Any]]:
    found = client.get(f"{answer.headers['location']}/result")
    assert found.status_code == 200, found.text
    name = f"predictions-{answer.json()['batchId']}.parquet"
    assert found.headers["content-disposition"] == f'attachment; filename="{name}"'
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(found.content)).to_pylist()
    return rows


def online(client: Client, row: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/models/heart/predictions", {"instances": [row]})


FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\ncontent-disposition: form-data; name="%s"\r\n\r\n1\r\n'
CSV = b"""id,age,chol,thal\r
a,63,233,6\r
b,26,,6\r
c,-5,233,6\r
d,old,233,6\r
e,63,233,9\r
f,63,233\r
"g ""x"", y",80.5,1e2,3\r
h,,233,6\r
"""


@pytest.mark.slow
def test_each_csv_row_gets_the_same_prediction_or_error_as_an_online_request(
    client: Client,
) -> None:
    answer = upload(client, CSV)
    batch = ended(client, answer)
    assert (batch["state"], batch["version"], batch["reason"]) == ("succeeded", "3", None)
    assert (batch["rows"], batch["rowsDone"], batch["rowsFailed"]) == (8, 8, 5)
    rows = result(client, answer)
    assert [row["row"] for row in rows] == list(range(8))
    asked: dict[int, dict[str, Any]] = {
        0: ROW,
        1: {**ROW, "age": 26, "chol": None},
        6: {"age": 80.5, "chol": 100.0, "thal": 3},
    }
    for number, row in asked.items():
        (expected,) = online(client, row).json()["predictions"]
        probability = pytest.approx(expected["probability"], rel=1e-7)
        assert rows[number] == {
            "row": number,
            "error": None,
            **expected,
            "probability": probability,
            "id": rows[number]["id"],
        }
    refused: dict[int, dict[str, Any]] = {
        2: {**ROW, "age": -5},
        4: {**ROW, "thal": 9},
        7: {**ROW, "age": None},
    }
    for number, row in refused.items():
        assert _number_as_text(rows[number]["error"]) == _number_as_text(
            online(client, row).json()["detail"]
        )
        assert rows[number]["label"] is None
    assert rows[3]["error"] == "age: 'old' is not FP32"
    assert rows[5]["error"] == "has 3 fields; the first line has 4"
    assert [row["id"] for row in rows] == ["a", "b", "c", "d", "e", None, 'g "x", y', "h"], (
        "own columns are passed through"
    )
    written = client.get(f"{answer.headers['location']}/result?format=csv")
    assert (written.status_code, written.headers["content-type"]) == (
        200,
        "text/csv; charset=utf-8",
    )
    assert written.headers["content-disposition"].endswith('.csv"')
    table = list(csv.DictReader(io.StringIO(written.text)))
    assert [row["error"] or None for row in table] == [row["error"] for row in rows]
    assert [row["label"] for row in table] == [
        "" if row["label"] is None else str(row["label"]) for row in rows
    ]
    assert [row["id"] or None for row in table] == [row["id"] for row in rows]


def _number_as_text(text: str) -> str:
    """Return a number of a CSV as in JSON, where -5.0 is -5."""
    return text.replace(".0 ", " ")


def test_a_parquet_file_gives_the_same_result_as_csv(client: Client) -> None:
    table = pa.table({"thal": [6, 6], "age": [63, 26], "chol": [233.0, None], "who": ["x", "y"]})
    file = io.BytesIO()
    pq.write_table(table, file)
    answer = upload(client, file.getvalue())
    assert ended(client, answer)["rowsFailed"] == 0
    assert [row["label"] for row in result(client, answer)] == [1, 0]


NAMED = Signature(
    inputs=(Column(name="x", datatype=Datatype.FP32),),
    outputs=(
        Column(name="row", datatype=Datatype.FP32),
        Column(name="error", datatype=Datatype.FP32, shape=(2,)),
    ),
)


def _named(service: str, asked: InferenceRequest) -> dict[str, Any]:
    (values,) = (tensor.data for tensor in asked.inputs)
    rows = len(values)
    row = {"name": "row", "shape": [rows], "datatype": "FP32", "data": values}
    error = {
        "name": "error",
        "shape": [rows, 2],
        "datatype": "FP32",
        "data": [v for value in values for v in (value, -value)],
    }
    return {"model_name": service, "outputs": [row, error]}


@pytest.mark.slow
def test_columns_of_outputs_and_files_may_have_the_names_of_result_columns(
    client: Client,
) -> None:
    with Predictor(NAMED, _named) as predictor:
        serve(client, "named", predictor)
        columns = {
            "x": [1.5, 2.0],
            "error": ["mine", None],
            "tags": [[b"a"], []],
            "day": pa.array([0, 1], pa.date32()),
        }
        file = io.BytesIO()
        pq.write_table(pa.table(columns), file)
        answer = upload(client, file.getvalue(), model="named")
        assert ended(client, answer)["rowsFailed"] == 0
    first, second = result(client, answer)
    assert first == {
        "_row": 0, "row": 1.5, "error": [1.5, -1.5], "_error": None, "__error": "mine",
        "tags": [b"a"], "day": date(1970, 1, 1)
    }  # fmt: skip
    assert (second["_row"], second["row"], second["__error"]) == (1, 2.0, None)
    lines = client.get(f"{answer.headers['location']}/result?format=csv").text.splitlines()
    assert lines == [
        '"_row","row","error","_error","__error","tags","day"',
        '0,1.5,"[1.5, -1.5]",,"mine","[""a""]",1970-01-01',
        '1,2,"[2.0, -2.0]",,,"[]",1970-01-02',
    ]


def test_a_failing_row_gets_an_error_and_does_not_affect_others(client: Client) -> None:
    def fail(service: str, asked: InferenceRequest) -> dict[str, Any]:
        if 13.0 in asked.inputs[0].data:
            raise ArithmeticError("the model fails on purpose")
        return _named(service, asked)

    with Predictor(NAMED, fail) as predictor:
        serve(client, "unlucky", predictor)
        answer = upload(client, b"x\n1\n13\n2\n", model="unlucky")
        assert ended(client, answer)["rowsFailed"] == 1
    assert [row["_error"] for row in result(client, answer)] == [
        None,
        "Internal Server Error",
        None,
    ]


def test_an_error_that_another_attempt_would_repeat_is_the_reason_and_is_not_retried(
    client: Client,
) -> None:
    with Predictor(NAMED, lambda service, _: {"model_name": service, "outputs": []}) as predictor:
        serve(client, "silent", predictor)
        batch = ended(client, upload(client, b"x\n1\n2\n", model="silent"))
        assert (batch["state"], batch["reason"]) == (
            "failed",
            "the predictor returned 0 rows for 2",
        )
        assert len(predictor.asked) == 1


@pytest.mark.slow
def test_the_error_of_the_last_attempt_is_the_reason(works: Environment) -> None:
    """Read the error from the Job's log.

    The attempts fail before the Job can write to the database.
    """
    template = copy.deepcopy(TEMPLATE)
    template["metadata"]["name"] = "lost"
    template["spec"]["jobTemplate"]["spec"]["backoffLimit"] = 1
    container = template["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [
        {"name": "SLIPWAY_DATABASE_URL", "value": "postgresql:///nothing?host=/nowhere"}
    ]
    works.cluster.apply(template)
    with works.gateway(batch_template="lost", spool=works.folder / "lost") as other:
        batch = ended(other, upload(other, CSV))
    assert batch["state"] == "failed"
    assert batch["reason"].startswith("the batch cannot be read or written")


def test_the_error_of_an_attempt_is_stored_until_another_one_succeeds(
    new_environment: Callable[[], Environment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictors, "PAUSES", ())
    environment = new_environment()
    environment.cluster.apply(TEMPLATE)
    with Predictor() as predictor, environment.gateway() as client:
        serve(client, "heart", predictor)
        path = upload(client, CSV).headers["location"]
        settings = Settings(
            database_url=environment.database_url, mlflow_tracking_uri="http://127.0.0.1:9"
        )
        predictor.raw, predictor.status = b'{"error": "busy"}', 503
        with pytest.raises(BatchError):
            predict_batch(path.rpartition("/")[2], settings)
        with psycopg.connect(environment.database_url) as connection:
            stored = connection.execute("SELECT problem FROM batches").fetchone()
        assert stored == ("the predictor does not respond: 503: busy",)
        seen = client.get(path).json()
        assert (seen["state"], seen["reason"]) == ("queued", None), "the Job may try again"
        predictor.raw = None
        assert predict_batch(path.rpartition("/")[2], settings)["state"] == "predicted"
        seen = client.get(path).json()
        assert (seen["state"], seen["reason"], seen["rowsFailed"]) == ("succeeded", None, 5)


@pytest.mark.slow
def test_a_killed_job_continues_from_its_last_part(client: Client, slow: Predictor) -> None:
    slow.hold(after=3)  # parts of 1000 rows
    rows = "".join(f"{number % 130},200,6\n" for number in range(12_000))
    answer = upload(client, b"age,chol,thal\n" + rows.encode(), model="slow")
    path, batch_id = answer.headers["location"], answer.json()["batchId"]
    assert client.get(f"{path}/result").status_code == 409
    kills = 0
    for share in (2000, 6000):
        wait_for(
            f"{share} rows",
            lambda share=share: client.get(path).json()["rowsDone"] >= share,  # type: ignore[misc]
            PATIENCE,
        )
        wait_for("a running part", lambda: slow.held)
        assert client.get(path).json()["state"] == "running"
        kills += _kill(batch_id)
        slow.hold(after=4)
    assert kills == 2
    slow.release()
    batch = ended(client, answer)
    assert (batch["state"], batch["rows"], batch["rowsDone"], batch["rowsFailed"]) == (
        "succeeded",
        12_000,
        12_000,
        0,
    )
    found = result(client, answer)
    assert [row["row"] for row in found] == list(range(12_000))
    assert [row["label"] for row in found] == [int(number % 130 > 50) for number in range(12_000)]
    assert 12 <= len(slow.asked) <= 12 + kills, "completed parts are not predicted again"
    with psycopg.connect(client.environment.database_url) as connection:
        kinds = connection.execute(
            "SELECT DISTINCT kind FROM batch_files WHERE batch_id = %s", [batch_id]
        ).fetchall()
    assert kinds == [("result",)]


def _kill(batch_id: str) -> int:
    """Kill the processes of the batch with SIGKILL and return their number."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"slipway_jobs" in words and batch_id.encode() in words:
            os.kill(int(path.parent.name), signal.SIGKILL)
            found += 1
    return found


@pytest.mark.slow
def test_only_the_owner_reads_and_deletes_a_batch_and_a_key_identifies_it(
    client: Client, works: Environment
) -> None:
    first, second = (upload(client, CSV, key="k") for _ in range(2))
    assert first.json()["batchId"] == second.json()["batchId"]
    other = upload(client, CSV + b"z,1,1,3\r\n", key="k")
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    path = first.headers["location"]
    for who in ("bob", "root"):
        assert (
            client.get(path, who).status_code
            == client.get(f"{path}/result", who).status_code
            == 404
        )
        assert client.http.delete(path, headers=client._headers(who)).status_code == 404
    assert client.get("/v1/batches", "bob").json() == {"batches": []}
    assert client.get("/v1/batches/nothing").status_code == 404
    assert first.json()["batchId"] in {
        each["batchId"] for each in client.get("/v1/batches").json()["batches"]
    }
    assert client.http.delete(path, headers=client._headers("ada")).status_code == 204
    assert client.get(path).status_code == 404
    with psycopg.connect(works.database_url) as connection:
        query = "SELECT count(*) FROM batch_files WHERE batch_id = %s"
        assert connection.execute(query, [first.json()["batchId"]]).fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"age,chol\n63,233\n", "the file has no column thal; it has age, chol"),
        (b"age,chol,thal\n1,2,3\n\xff\xfe\n", "the file is not text in UTF-8"),
        (b'age,chol,thal\n1,"2"x,3\n', "line 2 of the file is not CSV"),
        (b"PAR1 and nothing", "the file is not Parquet"),
    ],
)
def test_a_file_without_the_inputs_of_the_model_fails_with_a_reason(
    client: Client, content: bytes, reason: str
) -> None:
    answer = upload(client, content)
    batch = ended(client, answer)
    assert batch["state"] == "failed"
    assert reason in batch["reason"]
    assert client.get(f"{answer.headers['location']}/result").status_code == 409


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"", 422, "is empty"),
        (b"x" * 200_001, 413, "larger than 200000"),
        (b"\x89PNG\0\0", 415, "neither Parquet nor CSV"),
    ],
)
def test_an_invalid_file_is_rejected_immediately(
    client: Client, content: bytes, status: int, text: str
) -> None:
    answer = upload(client, content)
    assert answer.status_code == status
    assert text in answer.text


@pytest.mark.parametrize(
    ("content", "kind", "status", "text"),
    [
        (b"no form", FORM, 400, "multipart"),
        (b"--x\r\n", "multipart/form-data", 400, "no boundary"),
        (
            b'--x\r\ncontent-disposition: form-data; name="other"\r\n\r\n1\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            422,
            "file",
        ),
        (
            b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\n1\r\n',
            "multipart/form-data; boundary=x",
            400,
            "last boundary",
        ),
        (b'{"uri": "http://169.254.169.254/x"}', "application/json", 422, "not a public host"),
        (b'{"uri": "https://8.8.8.8/x"}', "application/json", 422, "no hosts at all"),
        (b'{"uri": "file:///etc/passwd"}', "application/json", 422, "not an http or https URL"),
        (b'{"url": 1}', "application/json", 422, "uri"),
    ],
)
def test_an_invalid_body_is_rejected(
    client: Client, content: bytes, kind: str, status: int, text: str
) -> None:
    headers = client._headers("ada") | {"content-type": kind}
    answer = client.http.post("/v1/models/heart/batches", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert text in answer.text


def limited(environment: Environment, policy: str, **terms: int) -> None:
    """Grant ada the model under a policy with these quotas."""
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("INSERT INTO policies (name) VALUES (%s)", [policy])
        for term, value in terms.items():
            connection.execute(
                SQL("UPDATE policies SET {} = %s WHERE name = %s").format(Identifier(term)),
                [value, policy],
            )
        connection.execute("DELETE FROM grants WHERE grantee = 'user:ada'")
        grant = (
            "INSERT INTO grants (grant_id, grantee, models, policy) VALUES (%s, 'user:ada', "
            "'heart', %s)"
        )
        connection.execute(grant, [policy, policy])


def charged(environment: Environment, policy: str) -> int:
    with psycopg.connect(environment.database_url) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(requests), 0) FROM usage WHERE policy = %s", [policy]
        ).fetchone()
    assert row
    return int(row[0])


def parquet(rows: int) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"age": [63] * rows, "chol": [233.0] * rows, "thal": [6] * rows}), file)
    return file.getvalue()


@pytest.mark.parametrize("period", ["requests_per_day", "requests_per_month"])
def test_a_policy_without_predictions_allows_no_batches(
    new_environment: Callable[[], Environment], period: str
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    limited(environment, "nothing", **{period: 0})
    with environment.gateway() as client:
        answer = upload(client, CSV)
        assert (answer.status_code, "policy nothing allows 0 predictions" in answer.text) == (
            403,
            True,
        )
    assert charged(environment, "nothing") == 0


def test_rows_are_charged_to_the_quota_once_and_unpredicted_rows_are_returned(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.cluster.apply(TEMPLATE)
    limited(environment, "few", requests_per_month=20, requests_per_day=30)
    with environment.gateway() as client:
        first = upload(client, CSV, key="k")
        assert (
            first.status_code,
            upload(client, CSV, key="k").status_code,
            charged(environment, "few"),
        ) == (202, 202, 8)
        assert upload(client, parquet(10)).status_code == 202
        assert charged(environment, "few") == 18
        spent = upload(client, CSV)
        assert (spent.status_code, "2 of your" in spent.text, "retry-after" in spent.headers) == (
            429,
            True,
            True,
        )
        assert spent.headers["ratelimit"].startswith('"month";r=2;')
        never = upload(client, parquet(21))
        assert (never.status_code, "allows 20 predictions a month" in never.text) == (403, True)
        assert charged(environment, "few") == 18, "a rejected file is not charged"
        assert (
            client.http.delete(
                first.headers["location"], headers=client._headers("ada")
            ).status_code
            == 204
        )
        assert charged(environment, "few") == 10


@pytest.mark.slow
def test_a_batch_is_charged_for_the_rows_that_the_job_counts(works: Environment) -> None:
    limited(works, "some", requests_per_day=100)
    with works.gateway() as client:
        ended(client, upload(client, CSV))
        assert charged(works, "some") == 8
        assert ended(client, upload(client, b"age,chol\n63,233\n"))["state"] == "failed"
        assert charged(works, "some") == 8, "no row was predicted"
        assert ended(client, upload(client, parquet(5)))["rows"] == 5
        assert charged(works, "some") == 13


@pytest.mark.slow
def test_a_file_with_too_many_rows_is_rejected_before_it_is_read(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    file = io.BytesIO()
    pq.write_table(
        pa.table({"age": pa.array([63] * 3_000_000, pa.int8())}), file, compression="zstd"
    )
    assert len(file.getvalue()) < 2**16, "a small file of many rows"
    with environment.gateway(batch_rows=7) as client:
        for content, rows in ((file.getvalue(), 3_000_000), (CSV, 8)):
            answer = upload(client, content)
            assert (answer.status_code, f"has {rows} rows; 7 are allowed" in answer.text) == (
                422,
                True,
            ), answer.text
    with psycopg.connect(environment.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (0,)


def test_a_job_with_more_rows_than_charged_predicts_none_and_returns_a_surplus(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.cluster.apply(TEMPLATE)
    limited(environment, "few", requests_per_month=20)
    with environment.gateway() as client:
        store = BatchStore(environment.database_url, upload(client, CSV).json()["batchId"])
    with pytest.raises(CorruptTable, match="has 9 rows, but the gateway counted 8"):
        store.begin(9)
    assert charged(environment, "few") == 8
    assert store.begin(5) == set()
    assert charged(environment, "few") == 5
    store.refuse("it is no table of the model")
    assert charged(environment, "few") == 0
