"""Lookup of features by store, product and date, from the features that a Job published."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import numpy as np
import pytest
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype, InferenceRequest
from slipway_jobs.sales.etl import EtlOptions, etl
from slipway_jobs.sales.features import COLUMNS, REACH, FeatureRequest, features
from slipway_jobs.sales.synthetic import synthetic_sales
from slipway_jobs.settings import Settings

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import Predictor
from tests.support.waiting import avoid_midnight, wait_for

SIGNATURE = Signature(
    inputs=COLUMNS,
    outputs=(
        Column(name="quantity", datatype=Datatype.FP32),
        Column(name="known", datatype=Datatype.FP32),
    ),
)
PATH = "/v1/models/quantity/predictions"
NAMES = [column.name for column in COLUMNS]
PAIRS = [
    (store, product)
    for store in ("Bremen", "Dresden", "Coburg")
    for product in ("bread", "soup", "juice", "umbrella")
]


@cache
def today() -> date:
    """Return the day of the first test."""
    avoid_midnight()
    return datetime.now(UTC).date()


def _predict(service: str, asked: InferenceRequest) -> dict[str, Any]:
    """Return the mean of 28 days and the number of known days."""
    given = {tensor.name: tensor.data for tensor in asked.inputs}
    rows = len(given["mean_28"])
    outputs = [
        {
            "name": name,
            "shape": [rows],
            "datatype": "FP32",
            "data": [value or 0.0 for value in given[column]],
        }
        for name, column in (("quantity", "mean_28"), ("known", "known_28"))
    ]
    return {"model_name": service, "model_version": "1", "id": asked.id, "outputs": outputs}


@pytest.fixture(scope="module")
def market(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("quantity", ("1", 100), url=predictor.url)
        settings = Settings(
            MLFLOW_TRACKING_URI="http://127.0.0.1:9",
            database_url=environment.database_url,
            fetch=False,
        )
        assert etl(EtlOptions(), settings)["newest"] == str(today() - timedelta(days=1))
        yield environment


@pytest.fixture(scope="module")
def client(market: Environment) -> Iterator[Client]:
    with market.gateway() as client:
        wait_for("a look at the features", lambda: client.gateway.data.features.known)
        yield client


def row(
    store: str = "Bremen", product: str = "bread", ahead: int = 0, **more: Any
) -> dict[str, Any]:
    return {
        "store": store,
        "product": product,
        "date": str(today() + timedelta(days=ahead)),
        **more,
    }


def ask(client: Client, *rows: dict[str, Any]) -> httpx.Response:
    return client.post(PATH, {"instances": list(rows)})


def sent(client: Client, answer: httpx.Response) -> dict[str, Any]:
    """Return the request that the model got, from the receipt."""
    request: dict[str, Any] = client.get(f"/v1/predictions/{answer.json()['requestId']}").json()[
        "request"
    ]
    return request


@pytest.mark.parametrize("count", [1, 3, 500])
def test_looked_up_features_equal_those_of_a_training_in_row_order(
    client: Client, count: int
) -> None:
    rows = [row(*PAIRS[index * 7 % len(PAIRS)], ahead=index % REACH) for index in range(count)]
    answer = ask(client, *rows)
    assert answer.status_code == 200, answer.text
    stores, products = (np.array([each[name] for each in rows]) for name in ("store", "product"))
    days = np.array([each["date"] for each in rows], dtype="datetime64[D]")
    asked = FeatureRequest(stores, products, days, np.full(count, np.datetime64(today())))
    learnt = features(
        synthetic_sales(today() + timedelta(days=40), since=today() - timedelta(days=40)), asked
    )
    predicted = np.array(
        [[each["quantity"], each["known"]] for each in answer.json()["predictions"]],
        dtype=np.float32,
    )
    assert np.array_equal(predicted, learnt[:, [NAMES.index("mean_28"), NAMES.index("known_28")]])
    if count == 3:
        tensors = {each["name"]: each["data"] for each in sent(client, answer)["inputs"]}
        got = np.array([tensors[name] for name in NAMES], dtype=np.float32).T
        assert np.array_equal(got, learnt, equal_nan=True)


def test_the_response_has_the_age_of_the_features_and_the_receipt_the_keys(
    client: Client,
) -> None:
    answer = ask(client, row())
    freshness = answer.json()["features"]
    assert (freshness["name"], freshness["newest"], freshness["synthetic"]) == (
        "sales-1",
        str(today() - timedelta(days=1)),
        True,
    )
    assert 0 <= freshness["ageSeconds"] < 86400 + 60
    parameters = sent(client, answer)["parameters"]
    assert parameters["newest"] == freshness["newest"]
    assert parameters["asked"] == f'[["Bremen","bread","{today()}"]]'


def test_a_day_that_is_not_sent_is_tomorrow_and_a_number_is_its_digits(client: Client) -> None:
    given = row(ahead=1)
    tomorrow = ask(client, given).json()["predictions"]
    del given["date"]
    assert ask(client, given).json()["predictions"] == tomorrow
    number, digits = ask(client, row(store=7)), ask(client, row(store="7"))  # type: ignore[arg-type]
    assert number.json()["predictions"] == digits.json()["predictions"]


def test_an_unknown_pair_gets_the_features_of_others(client: Client) -> None:
    answer = ask(
        client,
        row(store="Nowhere"),
        row(product="gold"),
        row(store="Nowhere", product="gold"),
        row(),
    )
    assert [each["known"] > 0 for each in answer.json()["predictions"]] == [
        False,
        False,
        False,
        True,
    ]
    tensors = {each["name"]: each["data"] for each in sent(client, answer)["inputs"]}
    there = [
        [
            tensors[name][index] is not None
            for name in ("product_mean", "store_mean", "overall_mean")
        ]
        for index in range(4)
    ]
    assert there == [
        [True, False, True],
        [False, True, True],
        [False, False, True],
        [True, True, True],
    ]


def test_an_input_of_the_caller_overrides_the_lookup(client: Client) -> None:
    answer = ask(client, row(promotion=1), row(mean_28=77.5))
    assert answer.json()["predictions"][1]["quantity"] == 77.5
    tensors = {each["name"]: each["data"] for each in sent(client, answer)["inputs"]}
    assert tensors["promotion"][0] == 1


def test_a_request_with_all_features_needs_no_lookup(client: Client) -> None:
    given: dict[str, Any] = dict.fromkeys(NAMES, 0.5)
    answer = ask(client, given)
    assert answer.json()["predictions"] == [{"quantity": 0.5, "known": 0.5}]
    assert "features" not in answer.json()
    raw = client.post(
        "/v2/models/quantity/infer",
        SIGNATURE.request([given]).model_dump(mode="json", exclude_none=True),
    )
    assert raw.json()["outputs"][0]["data"] == [0.5]


@pytest.mark.parametrize(
    ("wrong", "field", "problem"),
    [
        ({"ahead": REACH}, "date", "is not a day of feature set"),
        ({"ahead": -1}, "date", "which has {first} to {last}"),
        ({"date": "tomorrow"}, "date", "must be a day, as 2026-03-29 is"),
        ({"date": 20260329}, "date", "must be a day"),
        ({"store": 7.5}, "store", "must be a text of 1 to 200 letters"),
        ({"store": "*"}, "store", "must be a text of 1 to 200 letters"),
        ({"product": "b\0"}, "product", "must be a text"),
        ({"colour": "red"}, "colour", "is not an input of this model"),
        ({"promotion": "perhaps"}, "promotion", "FP32 is expected"),
    ],
)
def test_a_row_without_stored_features_is_rejected_by_name(
    client: Client, wrong: dict[str, Any], field: str, problem: str
) -> None:
    given = row(**wrong) if "ahead" in wrong else {**row(), **wrong}
    problem = problem.format(first=today(), last=today() + timedelta(days=REACH - 1))
    answer = ask(client, given)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert problem in error["problem"]
    assert "in row 1" in ask(client, row(), given).json()["errors"][0]["problem"]


def test_a_row_with_incomplete_keys_names_the_missing_ones(client: Client) -> None:
    given = row()
    del given["product"]
    answer = ask(client, given)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "product")


def test_the_api_document_has_a_valid_example(client: Client) -> None:
    operation = client.get("/v1/openapi.json").json()["paths"][PATH]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert set(content["example"]["instances"][0]) == {"store", "product", "date"}
    looked_up, full = content["schema"]["properties"]["instances"]["items"]["anyOf"]
    assert (looked_up["required"], full["required"]) == (["store", "product"], NAMES)
    assert client.post(PATH, content["example"]).json()["predictions"][0]["known"] > 0


def test_a_gauge_has_the_age_of_the_features(client: Client) -> None:
    age = client.gateway.metrics.registry.get_sample_value(
        "slipway_features_age_seconds", {"features": "sales-1"}
    )
    assert age is not None
    assert 0 <= age < 86400 + 60


def test_an_asynchronous_prediction_is_accepted(client: Client) -> None:
    assert client.post(PATH, {"instances": [row()]}, prefer="respond-async").status_code == 202
    assert (
        client.post(PATH, {"instances": [row(product="")]}, prefer="respond-async").status_code
        == 422
    )


def test_a_lookup_without_the_warehouse_gets_503(
    new_environment: Callable[[], Environment],
) -> None:
    with Predictor(SIGNATURE, _predict) as predictor:
        environment = new_environment()
        environment.model("quantity", ("1", 100), url=predictor.url)
        with environment.gateway() as client:
            answer = ask(client, row())
            document = client.get("/v1/openapi.json").json()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "60"
    assert (
        answer.json()["detail"]
        == 'feature set "sales-1" does not exist; run the Job that publishes it'
    )
    example = document["paths"][PATH]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert set(example["instances"][0]) == set(NAMES)
