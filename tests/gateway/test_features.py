"""Feature sets of any program: published by the SDK or in SQL, looked up, and listed."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from pydantic import ValidationError
from slipway.errors import Refused
from slipway.features import FeatureColumn, FeatureKey, FeatureSet, KeyType, Lookup, Row, publish
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, InferenceRequest
from sqlalchemy import Engine, event

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor
from tests.support.waiting import wait_for

PAGE = Path(__file__).parents[2] / "docs/how-to/features.md"
LOOKUP = Lookup(features="customers-1", keys=("customer",), date=None)
SIGNATURE = Signature(
    inputs=(
        Column(name="orders", datatype=Datatype.FP32, missing=True, lookup=LOOKUP),
        Column(name="tier", datatype=Datatype.BYTES, lookup=LOOKUP),
    ),
    outputs=(
        Column(name="orders", datatype=Datatype.FP32),
        Column(name="tier", datatype=Datatype.BYTES),
    ),
)
CUSTOMERS = FeatureSet(
    name="customers-1",
    owner="crm",
    keys=(FeatureKey(name="customer", type=KeyType.INTEGER),),
    columns=(
        FeatureColumn(name="orders"),
        FeatureColumn(name="tier", datatype=Datatype.BYTES),
    ),
    newest=date(2026, 3, 29),
    max_age_seconds=3600,
)
ROWS: list[Row] = [((17,), (np.float32(0.1), "gold")), (("*",), (math.nan, "none"))]
NOW = datetime(2026, 3, 29, 23, 30, tzinfo=UTC)
PATH = "/v1/models/churn/predictions"
SHOPS = CUSTOMERS.model_copy(
    update={
        "name": "shops-1",
        "keys": (
            FeatureKey(name="shop"),
            FeatureKey(name="product"),
            FeatureKey(name="date", type=KeyType.DATE, default="tomorrow"),
        ),
    }
)


def _predict(service: str, asked: InferenceRequest) -> dict[str, Any]:
    """Return the inputs as outputs; -1 for a missing number."""
    given = {tensor.name: tensor.data for tensor in asked.inputs}
    orders = [-1.0 if value is None else value for value in given["orders"]]
    outputs = [
        {"name": name, "shape": [len(data)], "datatype": kind, "data": data}
        for name, kind, data in (("orders", "FP32", orders), ("tier", "BYTES", given["tier"]))
    ]
    return {"model_name": service, "model_version": "1", "id": asked.id, "outputs": outputs}


@pytest.fixture(scope="module")
def shop(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("churn", ("1", 100), url=predictor.url)
        yield environment


@pytest.fixture(scope="module")
def client(shop: Environment) -> Iterator[Client]:
    with shop.gateway() as client:
        yield client


@pytest.fixture(autouse=True)
def published(shop: Environment) -> None:
    with psycopg.connect(shop.database_url) as connection:
        connection.execute("DELETE FROM feature_sets")
        assert publish(connection, CUSTOMERS, ROWS) == 2


def store(environment: Environment, declared: FeatureSet, rows: list[Row]) -> None:
    with psycopg.connect(environment.database_url) as connection:
        publish(connection, declared, rows)


def execute(environment: Environment, statement: str) -> None:
    with psycopg.connect(environment.database_url) as connection:
        connection.execute(statement.encode())


def ask(client: Client, *rows: dict[str, Any]) -> httpx.Response:
    return client.post(PATH, {"instances": list(rows)})


def test_keys_of_numbers_and_values_of_texts_are_looked_up(client: Client) -> None:
    answer = ask(client, {"customer": 17}, {"customer": 18}, {"customer": 17, "tier": "silver"})
    assert answer.json()["predictions"] == [
        {"orders": float(np.float32(0.1)), "tier": "gold"},
        {"orders": -1, "tier": "none"},
        {"orders": float(np.float32(0.1)), "tier": "silver"},
    ]
    assert answer.json()["features"]["newest"] == "2026-03-29"


def test_a_key_of_another_type_is_rejected(client: Client) -> None:
    for wrong in ("17", 17.5, True, None, 2**63):
        answer = ask(client, {"customer": wrong})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert (error["field"], error["problem"]) == (
            "customer",
            "must be a whole number: the key to look up",
        )


def test_an_unknown_key_without_a_wildcard_is_rejected(shop: Environment, client: Client) -> None:
    store(shop, CUSTOMERS, ROWS[:1])
    answer = ask(client, {"customer": 17}, {"customer": 18})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["problem"] == (
        'in row 1: feature set "customers-1" has no row for 18; GET /v1/features lists its keys'
    )


def test_a_feature_set_without_rows_gets_503(new_environment: Callable[[], Environment]) -> None:
    lookup = Lookup(features="shops-1", keys=("shop", "product"))
    inputs = tuple(each.model_copy(update={"lookup": lookup}) for each in SIGNATURE.inputs)
    signature = SIGNATURE.model_copy(update={"inputs": inputs})
    with Predictor(signature, _predict) as predictor:
        environment = new_environment()
        environment.model("churn", ("1", 100), url=predictor.url)
        store(environment, SHOPS, [])
        with environment.gateway() as client:
            answer = ask(client, {"shop": "a", "product": "b"})
            assert answer.status_code == 503
            assert answer.json()["detail"] == (
                'feature set "shops-1" has no rows; run the Job that publishes it'
            )
            store(environment, SHOPS, [(("*", "b", "2000-01-01"), (1.0, "x"))])
            answer = ask(client, {"shop": "a", "product": "b"})
            assert answer.status_code == 503, "the caller cannot correct a default day"
            assert "is not a day of feature set" in answer.json()["detail"]
            answer = ask(client, {"shop": "a", "product": "b", "date": "2000-01-02"})
            assert "is not a day of feature set" in answer.json()["errors"][0]["problem"]


def test_the_sql_of_the_guide_publishes_the_same(shop: Environment, client: Client) -> None:
    (statements,) = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    execute(shop, statements)
    answer = ask(client, {"customer": 17}, {"customer": 18})
    assert answer.json()["predictions"] == [
        {"orders": 4, "tier": "gold"},
        {"orders": -1, "tier": "none"},
    ]
    assert keys(client, "customer") == [17]


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE feature_sets SET keys = '[]'", "has an invalid declaration: keys: "),
        ("UPDATE feature_sets SET keys = '{}'", "has an invalid declaration: keys: "),
        ("UPDATE feature_rows SET vector = '[1]'", "has a row with other values than its columns"),
        ("UPDATE feature_rows SET vector = '1'", "has a row with other values than its columns"),
        (
            """UPDATE feature_sets SET keys = '[{"name": "person"}]'""",
            "has the keys person, and this version requires customer",
        ),
        (
            """UPDATE feature_sets SET columns = '[{"name": "orders"}, {"name": "tier"}]'""",
            "has no tier of the type that this version requires",
        ),
        ("DELETE FROM feature_sets", "does not exist; run the Job that publishes it"),
    ],
)
def test_a_feature_set_that_does_not_serve_the_version_gets_503(
    shop: Environment, client: Client, statement: str, problem: str
) -> None:
    execute(shop, statement)
    answer = ask(client, {"customer": 17})
    assert answer.status_code == 503
    assert f'feature set "customers-1" {problem}' in answer.json()["detail"]
    assert client.get("/v1/features").status_code == 200


def test_a_declaration_is_parsed_once_until_its_row_changes(
    shop: Environment, client: Client
) -> None:
    ask(client, {"customer": 17})
    statements: list[str] = []

    def record(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        assert ask(client, {"customer": 17}).status_code == 200
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    about = [each for each in statements if "feature_" in each]
    assert any("feature_rows" in each for each in about)
    assert not any("columns" in each or "ANY(key)" in each for each in about), about
    execute(shop, """UPDATE feature_sets SET keys = '[{"name": "person"}]'""")
    assert ask(client, {"customer": 17}).status_code == 503


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (((17,), (1.0,)), "row 2: values: 1 are given for 2 columns"),
        (((17, 18), (1.0, "x")), "row 2: key: has 2 values; the keys are customer"),
        ((("x",), (1.0, "x")), "row 2: customer: must be a whole number"),
        (((1,), ("1", "x")), "row 2: orders: '1' is no value of FP32"),
        (((1,), (math.inf, "x")), "row 2: orders: inf is no value of FP32"),
        (((1,), (True, "x")), "row 2: orders: True is no value of FP32"),
        (((1,), (1.0, b"x")), "row 2: tier: b'x' is no value of BYTES"),
        (((1,), (1e39, "x")), "row 2: orders: 1e+39 is no value of FP32"),
        (((1,), (1.0, "a\0")), "row 2: tier: 'a\\x00' is no value of BYTES"),
        (((np.int64(17),), (1.0, "x")), "row 2: a row before it has the key 17"),
    ],
)
def test_an_invalid_row_is_refused_and_the_former_rows_stay(
    shop: Environment, client: Client, row: Row, problem: str
) -> None:
    with pytest.raises(Refused, match=re.escape(problem)):
        store(shop, CUSTOMERS, [((17,), (9.0, "new")), row])
    assert ask(client, {"customer": 17}).json()["predictions"][0]["tier"] == "gold"


def test_a_feature_set_of_another_owner_is_not_replaced(shop: Environment) -> None:
    other = CUSTOMERS.model_copy(update={"owner": "sales team"})
    with pytest.raises(Refused, match='has another owner than "sales team"'):
        store(shop, other, ROWS)


def test_the_last_keys_stay_exact_longest() -> None:
    key = SHOPS.key({"shop": "a", "product": 7, "date": "2026-03-29"}, NOW)
    assert list(SHOPS.candidates(key)) == [
        ("a", "7", "2026-03-29"),
        ("*", "7", "2026-03-29"),
        ("a", "*", "2026-03-29"),
        ("*", "*", "2026-03-29"),
    ]


@pytest.mark.parametrize(("zone", "day"), [("UTC", "2026-03-30"), ("Europe/Berlin", "2026-03-31")])
def test_a_day_that_is_not_sent_is_tomorrow_in_the_time_zone(zone: str, day: str) -> None:
    declared = SHOPS.model_copy(update={"time_zone": zone})
    assert declared.key({"shop": "a", "product": "b"}, NOW)[2] == day


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"keys": [{"name": "tier"}]}, "names are not unique"),
        ({"keys": [{"name": "a", "type": "date"}, {"name": "b", "type": "date"}]}, "at most one"),
        ({"keys": [{"name": "a", "default": "tomorrow"}]}, "only a key of type date"),
        ({"keys": []}, "at least 1"),
        ({"keys": [{"name": "*"}]}, "pattern"),
        ({"name": "a/b"}, "pattern"),
        ({"time_zone": "Mars/Olympus"}, "is not a time zone"),
        ({"time_zone": "../etc/passwd"}, "is not a time zone"),
        ({"newest": 5}, "is a number"),
        ({"models": []}, "at least 1"),
        ({"models": ["a b"]}, "pattern"),
    ],
)
def test_an_invalid_declaration_is_rejected(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        FeatureSet.model_validate({**CUSTOMERS.model_dump(), **changed})


def test_the_list_has_types_owner_and_freshness(client: Client) -> None:
    (listed,) = client.get("/v1/features").json()["features"]
    assert listed["name"] == "customers-1"
    assert listed["owner"] == "crm"
    assert listed["keys"] == [{"name": "customer", "type": "integer", "default": None}]
    assert [(each["name"], each["datatype"]) for each in listed["columns"]] == [
        ("orders", "FP32"),
        ("tier", "BYTES"),
    ]
    assert listed["ageSeconds"] > listed["maxAgeSeconds"] == 3600
    assert listed["fresh"] is False


def test_feature_sets_without_a_granted_model_are_for_admins(
    shop: Environment, client: Client
) -> None:
    store(shop, SHOPS, [])
    assert names(client, "ada") == ["customers-1"]
    assert names(client, "root") == ["customers-1", "shops-1"]
    first = client.get("/v1/features?limit=1", "root").json()
    rest = client.get(f"/v1/features?limit=1&cursor={first['nextCursor']}", "root").json()
    assert [each["name"] for each in rest["features"]] == ["shops-1"]
    assert rest["nextCursor"] is None
    hidden = client.get("/v1/features/shops-1/keys?key=shop")
    missing = client.get("/v1/features/nothing/keys?key=shop")
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.json()["detail"].replace("shops-1", "nothing") == missing.json()["detail"]
    assert client.get("/v1/features", None).status_code == 401


def test_a_version_cannot_read_a_feature_set_that_does_not_admit_its_model(
    shop: Environment, client: Client
) -> None:
    """Declare the models: a signature can name any feature set."""
    store(shop, CUSTOMERS.model_copy(update={"models": ("prices", "sales-*")}), ROWS)
    assert names(client, "ada") == []
    assert client.get("/v1/features/customers-1/keys?key=customer").status_code == 404
    answer = ask(client, {"customer": 17})
    assert answer.status_code == 503
    assert answer.json()["detail"] == (
        'feature set "customers-1" does not admit the model churn; its owner, crm, names the '
        "models in its declaration"
    )
    store(shop, CUSTOMERS.model_copy(update={"models": ("prices", "chur?")}), ROWS)
    assert client.get("/v1/features").json()["features"][0]["models"] == ["prices", "chur?"]
    assert ask(client, {"customer": 17}).status_code == 200


def test_without_a_grant_nothing_is_listed(shop: Environment, client: Client) -> None:
    execute(shop, "UPDATE grants SET expires = now()")
    try:
        wait_for("the grants to be read", lambda: not names(client, "ada"))
        assert client.get("/v1/features/customers-1/keys?key=customer").status_code == 404
    finally:
        execute(shop, "UPDATE grants SET expires = NULL")
        wait_for("the grants to be read", lambda: names(client, "ada"))


def names(client: Client, who: str) -> list[str]:
    return [each["name"] for each in client.get("/v1/features", who).json()["features"]]


def keys(client: Client, key: str, name: str = "customers-1", more: str = "") -> list[Any]:
    """Return the values of all pages."""
    values: list[Any] = []
    cursor = ""
    while True:
        path = f"/v1/features/{name}/keys?key={key}&limit=2{more}{cursor}"
        page = client.get(path, "root").json()
        values += page["values"]
        if page["nextCursor"] is None:
            return values
        cursor = f"&cursor={page['nextCursor']}"


def test_the_values_of_a_key_have_pages_and_a_prefix(shop: Environment, client: Client) -> None:
    days = ("2026-03-30", "2026-03-31")
    shops = ("Åre", "Bremen", "Berlin", "B*", "bonn", "*")
    rows: list[Row] = [((shop, 7, day), (1.0, "x")) for shop in shops for day in days]
    store(shop, SHOPS, rows)
    assert keys(client, "shop", "shops-1") == ["B*", "Berlin", "Bremen", "bonn", "Åre"]
    assert keys(client, "shop", "shops-1", "&prefix=B") == ["B*", "Berlin", "Bremen"]
    assert keys(client, "product", "shops-1") == ["7"]
    assert keys(client, "date", "shops-1") == list(days)
    assert keys(client, "shop", "shops-1", "&prefix=%25") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("key=nothing", "key"),
        ("", "key"),
        ("key=customer&limit=501", "limit"),
        ("key=customer&limit=0", "limit"),
        ("key=customer&cursor=%FF", "cursor"),
        ("key=customer&cursor=a", "cursor"),
        ("key=customer&cursor=AA==", "cursor"),
        ("key=customer&prefix=%00", "prefix"),
    ],
)
def test_an_invalid_query_is_rejected_by_name(client: Client, query: str, field: str) -> None:
    answer = client.get(f"/v1/features/customers-1/keys?{query}")
    assert answer.status_code == 422
    assert field in answer.json()["errors"][0]["field"]
