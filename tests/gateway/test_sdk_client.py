"""The client of the gateway: all operations, both kinds, frames, errors and retries."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import httpx2
import msgspec
import pandas as pd
import pytest
from slipway import AsyncClient, Client, exchange, operations
from slipway.client import addressed
from slipway.errors import (
    InvalidRequest,
    LimitReached,
    NoResponse,
    NotAllowed,
    NotFound,
    NotLoggedIn,
    ProviderUnavailable,
    SlipwayError,
    WrongParameter,
)
from slipway.operations import OPERATIONS, Operation
from slipway.responses import PredictionAnswer, Response

from docs.generator.gateway import gateway as whole_gateway
from tests.gateway.environment import Client as GatewayClient
from tests.gateway.environment import Environment
from tests.gateway.predictor import ROW
from tests.support.waiting import wait_for

Json = dict[str, Any]


@pytest.fixture(scope="module")
def served(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture(scope="module")
def gateway(served: Environment) -> Iterator[GatewayClient]:
    with served.gateway() as client:
        yield client


@pytest.fixture
def token(served: Environment) -> str:
    return served.issuer.token("ada", "user")


@pytest.fixture
def sdk(gateway: GatewayClient, token: str) -> Iterator[Client]:
    with Client(gateway.url, token) as client:
        yield client


@pytest.fixture(scope="module")
def document() -> Json:
    """Return the document of a gateway with all routes, those of accounts included."""
    with whole_gateway() as every:
        return every.api.openapi()


def resolved(document: Json, value: Json) -> Json:
    while "$ref" in value:
        found: Any = document
        for key in value["$ref"].split("/")[1:]:
            found = found[key]
        value = found
    return value


def described(document: Json) -> dict[tuple[str, str], Json]:
    """Return the operations of the document by method and path, with all their parameters."""
    return {
        (method.upper(), path): operation
        | {
            "parameters": [
                resolved(document, each)
                for each in (*item.get("parameters", ()), *operation.get("parameters", ()))
            ]
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_every_operation_of_the_document_exists_with_its_parameters(document: Json) -> None:
    known = {(each.method, each.path): (name, each) for name, each in OPERATIONS.items()}
    assert len(known) == len(OPERATIONS)
    assert sorted(known) == sorted(described(document))
    for key, operation in described(document).items():
        name, ours = known[key]
        assert name == operation["operationId"]
        places = {"path": ours.names, "query": ours.query, "header": ours.headers}
        for place, names in places.items():
            given = [each["name"] for each in operation["parameters"] if each["in"] == place]
            assert sorted(names) == sorted(given), f"{name}: parameters of the {place}"
        assert ours.body == ("requestBody" in operation), name


def test_every_response_is_that_of_the_document(document: Json) -> None:
    for (method, path), operation in described(document).items():
        ours = next(e for e in OPERATIONS.values() if (e.method, e.path) == (method, path))
        for status, reply in operation["responses"].items():
            if not status.startswith("2"):
                continue
            kind: Any = ours.accepted if status == "202" and ours.accepted else ours.returns
            content = resolved(document, reply).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            if "$ref" not in schema or kind is dict:
                assert kind in (dict, bytes, str, type(None)), operation["operationId"]
                assert (kind is dict) == bool(schema)
                continue
            assert kind.__name__ == schema["$ref"].rpartition("/")[2]
            check_fields(document, kind)


def check_fields(document: Json, kind: Any) -> None:
    """Compare a Struct and those in its fields with the schemas of the same name."""
    schema = document["components"]["schemas"][kind.__name__]
    for each in msgspec.structs.fields(kind):
        where = f"{kind.__name__}.{each.encode_name}"
        assert each.encode_name in schema["properties"], where
        if each.required:
            assert each.encode_name in schema["required"], where
        for part in (each.type, *get_args(each.type)):
            if get_origin(part) is None and isinstance(part, type) and issubclass(part, Response):
                check_fields(document, part)


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert methods(Client) - methods(AsyncClient) == {"declare", "wait_ready"}
    assert methods(AsyncClient) <= methods(Client)


def frame(rows: int) -> pd.DataFrame:
    ages = [float(number % 100) for number in range(rows)]
    chol = [None if number % 7 == 0 else 200.0 for number in range(rows)]
    return pd.DataFrame({"age": ages, "chol": chol, "thal": 3}, index=range(5, rows + 5))


def test_a_frame_of_10000_rows_is_predicted_in_order(sdk: Client, served: Environment) -> None:
    rows, before = frame(10_000), len(served.predictor.asked)
    result = sdk.predict("heart", rows)
    assert len(result) == 10_000
    assert len(served.predictor.asked) - before == 10
    assert result.index.name == "requestId"
    assert result.index.nunique() == 10
    one = sdk.predict("heart", rows.iloc[[7777]])
    assert result.iloc[7777].to_dict() == one.iloc[0].to_dict()
    assert result["probability"].nunique() > 1


def test_an_event_loop_predicts_the_same(sdk: Client, gateway: GatewayClient, token: str) -> None:
    async def predicted() -> pd.DataFrame:
        async with AsyncClient(gateway.url, token) as client:
            found: pd.DataFrame = await client.predict("heart", frame(1500))
            assert (await client.call(operations.get_model, model="heart")).version == "3"
            assert len(await client.label(found.index[1000:], found["label"][1000:])) == 1
            with pytest.raises(NotAllowed):
                [line async for line in client.logs("heart", "train-heart-0")]
            return found

    there = asyncio.run(predicted())
    here = sdk.predict("heart", frame(1500))
    assert there.reset_index(drop=True).equals(here.reset_index(drop=True))


def test_rows_are_labelled_by_the_index_of_their_predictions(sdk: Client) -> None:
    result = sdk.predict("heart", frame(1001))
    labels = sdk.label(result.index, result["label"])
    assert [each.request_id for each in labels] == list(dict.fromkeys(result.index))
    assert len(labels[0].label) == 1000
    receipt = sdk.call(operations.get_receipt, request_id=result.index[-1])
    assert receipt.feedback
    assert receipt.feedback.label == result["label"].iloc[-1]
    with pytest.raises(WrongParameter, match="are 1 for 1001 rows"):
        sdk.label(result.index, [1])


def test_rows_without_pandas_are_objects(sdk: Client) -> None:
    (answer,) = sdk.predict("heart", [ROW])
    assert isinstance(answer, PredictionAnswer)
    assert (answer.version, len(answer.predictions)) == ("3", 1)
    with pytest.raises(WrongParameter, match="there are none"):
        sdk.predict("heart", [])
    for rows in ([ROW | {"age": float("inf")}], pd.DataFrame([ROW | {"age": float("-inf")}])):
        with pytest.raises(WrongParameter, match="age: row 0 has infinity"):
            sdk.predict("heart", rows)


def test_a_frame_with_an_index_of_floats_is_predicted_by_position(sdk: Client) -> None:
    rows = frame(1500)
    expected = sdk.predict("heart", rows).reset_index(drop=True)
    rows.index = pd.Index([number / 2 for number in range(1500)])
    assert sdk.predict("heart", rows).reset_index(drop=True).equals(expected)


def test_all_rows_are_checked_before_a_request_is_sent(sdk: Client, served: Environment) -> None:
    before = len(served.predictor.asked)
    rows = frame(2500)
    rows.iloc[2100, 0] = float("inf")
    with pytest.raises(WrongParameter, match="age: row 2100 has infinity"):
        sdk.predict("heart", rows)
    assert len(served.predictor.asked) == before


def test_predictions_before_a_broken_connection_are_kept() -> None:
    answer = {"predictions": [{"label": 1}] * 1000, "requestId": "r", "model": "heart"}
    answer |= {"version": "3", "digest": "d"}
    given: list[Any] = [httpx2.Response(200, json=answer), *[httpx2.ReadError("gone")] * 9]
    flow = exchange.predict("heart", frame(1001), None)

    def carry_out() -> None:
        with addressed("http://a"):
            step = next(flow)
            while True:
                step = flow.send(None if isinstance(step, float) else given.pop(0))

    with pytest.raises(NoResponse, match="gateway http://a does not respond: gone") as caught:
        carry_out()
    assert len(caught.value.answers) == 1000
    assert caught.value.answers.index.unique().tolist() == ["r"]
    assert caught.value.__notes__[0].startswith("1000 of 1001 rows are predicted")


@pytest.mark.parametrize("wrong", ["", "secret\nvalue", "secret value", "secr\u00e9t"])
def test_a_token_that_is_no_header_is_named_but_not_printed(
    gateway: GatewayClient, wrong: str
) -> None:
    async def asked() -> None:
        async with AsyncClient(gateway.url, lambda: wrong) as client:
            await client.call(operations.get_me)

    errors = []
    with pytest.raises(WrongParameter) as caught, Client(gateway.url, lambda: wrong) as client:
        client.call(operations.get_me)
    errors.append(caught.value)
    with pytest.raises(WrongParameter) as caught:
        asyncio.run(asked())
    for each in (*errors, caught.value):
        assert str(each).startswith("access token: is empty, or has spaces")
        assert "secr" not in str(each)


def test_a_token_from_a_file_may_end_in_a_line_break(gateway: GatewayClient, token: str) -> None:
    with Client(gateway.url, f"{token}\n") as client:
        assert client.call(operations.get_me).account == "ada"


def test_an_error_of_the_token_is_not_one_of_the_gateway(gateway: GatewayClient) -> None:
    def broken() -> str:
        raise httpx2.ConnectError("refused")

    with (
        Client(gateway.url, broken) as client,
        pytest.raises(ProviderUnavailable, match="access token: is not renewed: refused"),
    ):
        client.call(operations.get_me)


def test_a_list_is_read_to_its_last_page(
    sdk: Client, gateway: GatewayClient, served: Environment, token: str
) -> None:
    made = {sdk.predict("heart", [ROW])[0].request_id for _ in range(3)}

    def listed() -> list[str]:
        pages = sdk.pages(operations.list_predictions, limit=2)
        return [each.request_id for page in pages for each in page.predictions]

    wait_for("the predictions in the list", lambda: made <= set(listed()) or None)
    found = listed()
    assert len(found) == len(set(found))

    async def read() -> list[str]:
        async with AsyncClient(gateway.url, token) as client:
            pages = client.pages(operations.list_predictions, limit=2)
            return [each.request_id async for page in pages for each in page.predictions]

    assert made <= set(asyncio.run(read()))
    with Client(gateway.url, served.issuer.token("root", "admin")) as root:
        body = {"grantee": "user:eve", "models": "heart", "policy": "default"}
        for _ in range(2):
            grant = root.call(operations.create_grant, body=body)
            root.call(operations.delete_grant, grant_id=grant.grant_id)
        pages = list(root.pages(operations.list_audit_entries, limit=1))
    numbers = [each.number for page in pages for each in page.entries]
    assert len(numbers) >= 4
    assert numbers == sorted(set(numbers), reverse=True)


def test_a_training_may_have_a_parameter_of_any_name(sdk: Client) -> None:
    with pytest.raises(NotAllowed):
        sdk.train("heart", model="linear", self="x")


def test_a_download_is_complete_or_not_there(
    gateway: GatewayClient, served: Environment, tmp_path: Path
) -> None:
    with Client(gateway.url, served.issuer.token("root", "admin")) as root:
        root.download(operations.export_feedback, tmp_path / "labels.parquet", model="heart")
        assert (tmp_path / "labels.parquet").read_bytes()[:4] == b"PAR1"
        with pytest.raises(NotFound):
            root.download(operations.get_batch_result, tmp_path / "out.csv", batch_id="none")
    assert [each.name for each in tmp_path.iterdir()] == ["labels.parquet"]


def test_a_rejected_input_names_field_remedy_and_request(sdk: Client) -> None:
    rows = [ROW] * 1000 + [ROW | {"age": 167.0}]
    with pytest.raises(InvalidRequest) as caught:
        sdk.predict("heart", rows)
    error = caught.value
    assert (error.code, error.status, error.field) == (422, 3, "age")
    assert "167" in str(error)
    assert len(error.request_id) == 36
    assert error.__notes__ == ["1000 of 1001 rows are predicted; rows are counted from row 1000"]
    assert [len(each.predictions) for each in error.answers] == [1000]


def test_each_kind_of_problem_is_an_exception(sdk: Client, gateway: GatewayClient) -> None:
    with pytest.raises(NotFound) as caught:
        sdk.call(operations.get_receipt, request_id="0190a6b2-0000-7000-8000-000000000000")
    assert caught.value.request_id
    with pytest.raises(NotAllowed):
        sdk.call(operations.list_policies)
    with Client(gateway.url, "unknown") as unknown, pytest.raises(NotLoggedIn) as refused:
        unknown.call(operations.get_me)
    assert (refused.value.code, refused.value.status) == (401, 5)
    with pytest.raises(TypeError, match="has no parameter 'limits'"):
        sdk.call(operations.list_batches, limits=1)
    with pytest.raises(TypeError, match="needs 'model'"):
        sdk.call(operations.get_model)
    with pytest.raises(WrongParameter, match=r"model: '\.\.' is not a name"):
        sdk.call(operations.get_model, model="..")
    with pytest.raises(NotFound):  # a slash does not reach another path
        sdk.call(operations.get_model, model="heart/card")


def test_a_task_is_stored_once_for_a_key(sdk: Client) -> None:
    first = sdk.submit("heart", [ROW], key="monday")
    assert sdk.submit("heart", [ROW], key="monday") == first
    assert sdk.submit("heart", [ROW]) != sdk.submit("heart", [ROW])
    assert sdk.call(operations.get_task, task_id=first).model == "heart"


def test_the_rate_limit_is_waited_for(served: Environment, token: str) -> None:
    with (
        served.gateway(predictions_per_minute=120) as limited,
        Client(limited.url, token) as client,
    ):
        answers = [client.predict("heart", [ROW]) for _ in range(4)]
        assert len(answers) == 4


def replies(*given: httpx2.Response | httpx2.TransportError) -> tuple[list[float], Any]:
    """Run a keyed request against these replies; return the waits, and the response or error."""
    request = exchange.request_of(operations.create_training, {"model": "a"}, {})
    return run(request, *given)


def run(
    request: exchange.Request, *given: httpx2.Response | httpx2.TransportError
) -> tuple[list[float], Any]:
    waits: list[float] = []
    flow, left = exchange.respond(request), list(given)
    reply: exchange.Reply = None
    while True:
        try:
            step = flow.send(reply)
        except StopIteration as done:
            return waits, done.value
        except SlipwayError as error:
            return waits, error
        if isinstance(step, float):
            waits.append(step)
            reply = None
        else:
            reply = left.pop(0)


def limited(seconds: str) -> httpx2.Response:
    return httpx2.Response(429, headers={"retry-after": seconds}, json={"detail": "slow down"})


def test_retries_are_bounded_and_honour_retry_after() -> None:
    done = httpx2.Response(202, json={})
    assert replies(limited("3"), httpx2.Response(503), done) == ([3.0, 0.4], done)
    waits, error = replies(*[limited("1")] * 9)
    assert (waits, type(error)) == ([1.0] * 4, LimitReached)
    waits, error = replies(limited("3600"))  # of a quota
    assert (waits, type(error), error.detail) == ([], LimitReached, "slow down")
    waits, error = replies(*[httpx2.ReadError("gone")] * 9)
    assert (waits, type(error)) == ([0.2, 0.4], NoResponse)


def test_what_may_have_had_an_effect_is_not_sent_again() -> None:
    grant = exchange.request_of(operations.create_grant, {}, {})
    for broken in (httpx2.ReadError("gone"), httpx2.Response(503)):
        assert run(grant, broken)[0] == []
    assert run(grant, httpx2.ConnectError("refused"), httpx2.Response(201))[0] == [0.2]
    assert run(grant, limited("1"), httpx2.Response(201))[0] == [1.0]


def test_a_wrong_address_is_named(document: Json) -> None:
    with pytest.raises(WrongParameter, match=r"URL: 'slipway\.example' has no scheme"):
        Client("slipway.example", "t")
    for text in ("http://[::1", "http://a:99999", "http://a b"):
        with pytest.raises(WrongParameter, match="is not a URL"):
            Client(text, "t")
    with Client("http://127.0.0.1:9", "t") as client, pytest.raises(NoResponse) as caught:
        client.call(operations.list_models)
    assert str(caught.value).startswith("gateway http://127.0.0.1:9 does not respond: ")
    page = httpx2.Response(200, html="<html>", request=httpx2.Request("GET", "http://a/"))
    with pytest.raises(SlipwayError, match="is not one of Slipway's gateway"):
        exchange.decoded(page, OPERATIONS["list_models"].returns)
    assert document


@pytest.mark.parametrize("module", ["slipway.client", "slipway.async_client"])
def test_the_client_imports_neither_pydantic_nor_numpy(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {each.partition(".")[0] for each in json.loads(done.stdout)}
    assert "httpx2" in modules
    assert modules & {"pydantic", "numpy", "pandas", "mlflow", "httpx", "click", "yaml"} == set()


def test_parameters_are_in_snake_case() -> None:
    operation: Operation[Any] = operations.replace_model
    assert operation.parameters == {
        "model": "model", "if_match": "If-Match", "if_none_match": "If-None-Match",
    }  # fmt: skip
