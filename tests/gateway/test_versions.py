"""Versions of a model over HTTP: rows of Jobs, roles of the Model's status, pages, decisions."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.gateway.environment import Client, Environment

CREATED = datetime(2026, 5, 1, tzinfo=UTC)
SCORES = {"accuracy": {"value": 0.85, "baseline": 0.54}}


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 90), ("5", 10), registeredModel="heart-disease")
    environment.model("lung")
    for number in range(1, 5):
        store(environment, "heart-disease", number)
    store(environment, "other", 7)
    return environment


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture(scope="module")
def marie(environment: Environment) -> str:
    return environment.issuer.token("marie", "scientist")


def insert(environment: Environment, table: str, row: dict[str, Any]) -> None:
    values = [json.dumps(v) if isinstance(v, list | dict) else v for v in row.values()]
    names, places = ", ".join(row), ", ".join(["%s"] * len(row))
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", values)  # noqa: S608


def store(environment: Environment, name: str, number: int) -> None:
    row = {
        "registered_model": name,
        "number": number,
        "fingerprint": "f",
        "created": CREATED + timedelta(days=number),
        "created_by": "user:ada",
        "run_id": f"run-{number}",
        "git_revision": "0123abc",
        "image": "slipway/jobs:1",
        "dataset": {"name": "cleveland", "digest": "sha256:d"},
        "format": "onnx",
        "size_bytes": 2**40,
        "digest": f"sha256:{number:064x}",
        "signed_by": "cd" * 32,
        "aliases": ["champion"] if number == 3 else [],
        "metrics": SCORES,
        "parameters": {"C": "0.1"},
        "confusion_matrix": {"rows": 3, "counts": [[1, 0], [1, 1]]},
    }
    insert(environment, "registered_versions", row)


def decide(environment: Environment, number: int, result: str, minute: int) -> None:
    row = {
        "registered_model": "heart-disease",
        "number": number,
        "time": CREATED + timedelta(minutes=minute),
        "promotion_id": f"promote-{minute}",
        "alias": "champion",
        "result": result,
        "reason": f"{result} after {minute}",
        "subject": "user:marie",
        "dry_run": False,
        "detail": {"gain": 0.1},
    }
    insert(environment, "version_promotions", row)


def listed(client: Client, who: str, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/v1/models/heart/versions{query}", who)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_version_has_its_provenance_scores_and_role(client: Client, marie: str) -> None:
    answer = client.get("/v1/models/heart/versions/3", marie)
    assert answer.status_code == 200, answer.text
    version = answer.json()
    assert version["createdAt"] == "2026-05-04T00:00:00Z"
    assert (version["createdBy"], version["runId"]) == ("user:ada", "run-3")
    assert (version["gitRevision"], version["image"]) == ("0123abc", "slipway/jobs:1")
    assert (version["dataset"]["name"], version["format"]) == ("cleveland", "onnx")
    assert (version["sizeBytes"], version["signedBy"]) == (2**40, "cd" * 32)
    assert (version["role"], version["percent"], version["verified"]) == ("live", 90, True)
    assert (version["aliases"], version["metrics"]) == (["champion"], SCORES)
    assert version["parameters"] == {"C": "0.1"}
    assert version["confusionMatrix"]["counts"] == [[1, 0], [1, 1]]
    assert (version["promotions"], version["lastPromotion"]) == ([], None)
    served = next(t for t in client.get("/v1/models/heart").json()["traffic"] if t["percent"] == 90)
    assert version["digest"] == served["digest"]


def test_pages_cover_each_version_once_and_include_one_without_a_row(
    client: Client, marie: str
) -> None:
    seen, cursor = [], ""
    while cursor is not None:
        page = listed(client, marie, f"?limit=2{cursor and '&cursor=' + cursor}")
        seen += page["versions"]
        cursor = page["nextCursor"]
        assert len(page["versions"]) <= 2
    assert [each["version"] for each in seen] == ["5", "4", "3", "2", "1"]
    assert (seen[0]["role"], seen[0]["createdAt"], seen[0]["metrics"]) == ("canary", None, {})
    assert (seen[1]["role"], seen[1]["percent"], seen[1]["verified"]) == (None, 0, None)
    assert [each["promotions"] for each in seen] == [None] * 5
    assert [each["confusionMatrix"] for each in seen] == [None] * 5, "only of a single version"
    assert client.get("/v1/models/lung/versions", marie).json()["versions"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=%ff", "cursor"),
        ("cursor=InMi", "cursor"),
        ("cursor=LTE", "cursor"),
        ("cursor=", "cursor"),
    ],
)
def test_an_invalid_page_is_422(client: Client, marie: str, query: str, field: str) -> None:
    answer = client.get(f"/v1/models/heart/versions?{query}", marie)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_the_decisions_of_the_gate_are_listed_newest_first(
    environment: Environment, client: Client, marie: str
) -> None:
    for minute, result in enumerate(("refused", "undecided", "promoted")):
        decide(environment, 2, result, minute)
    version = client.get("/v1/models/heart/versions/2", marie).json()
    assert [each["result"] for each in version["promotions"]] == [
        "promoted",
        "undecided",
        "refused",
    ]
    assert version["lastPromotion"] == {
        "promotionId": "promote-2",
        "result": "promoted",
        "reason": "promoted after 2",
        "at": "2026-05-01T00:02:00Z",
        "by": "user:marie",
        "alias": "champion",
        "dryRun": False,
        "detail": {"gain": 0.1},
    }
    (row,) = [each for each in listed(client, marie)["versions"] if each["version"] == "2"]
    assert row["lastPromotion"] == version["lastPromotion"]


def test_versions_need_the_role_and_a_version_that_exists(client: Client, marie: str) -> None:
    assert client.get("/v1/models/heart/versions", "ada").status_code == 403
    assert client.get("/v1/models/nothing/versions", marie).status_code == 404
    unknown = client.get("/v1/models/heart/versions/7", marie)
    assert unknown.status_code == 404
    assert "a Job of the model copies the versions" in unknown.json()["detail"]
    for path in ("x", "0", "-1", "9999999999", "3%00"):
        assert client.get(f"/v1/models/heart/versions/{path}", marie).status_code == 422


def test_a_scientist_without_a_grant_of_the_model_is_rejected(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100))
    with psycopg.connect(own_environment.database_url) as connection:
        connection.execute("DELETE FROM grants")
    marie = own_environment.issuer.token("marie", "scientist")
    with own_environment.gateway() as client:
        for path in ("versions", "versions/3", "events"):
            assert client.get(f"/v1/models/heart/{path}", marie).status_code == 403


def test_an_unchanged_state_is_304(environment: Environment, client: Client, marie: str) -> None:
    headers = {"authorization": f"Bearer {marie}"}
    for path in (
        "/v1/models",
        "/v1/models/heart",
        "/v1/models/heart/versions",
        "/v1/models/heart/versions/1",
    ):
        first = client.http.get(path, headers=headers)
        tag = first.headers["etag"]
        assert tag.startswith('W/"')
        again = client.http.get(path, headers={**headers, "if-none-match": f'"x", {tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        other = client.http.get(path, headers={**headers, "if-none-match": 'W/"x"'})
        assert (other.status_code, other.json()) == (200, first.json())
    decide(environment, 1, "refused", 9)
    changed = client.http.get(path, headers={**headers, "if-none-match": tag})
    assert changed.status_code == 200
