"""The control API: predictions from named features, receipts, feedback and errors."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import DIGEST, ROW, Predictor


def _predict(client: Client, *rows: dict[str, Any], who: str = "ada") -> httpx.Response:
    return client.post("/v1/models/heart/predictions", {"instances": list(rows)}, who)


def test_named_features_give_one_object_for_each_row(client: Client) -> None:
    answer = _predict(client, ROW, {**ROW, "age": 26, "chol": None})
    assert answer.status_code == 200
    body = answer.json()
    assert body["predictions"][0] == {"label": 1, "probability": pytest.approx(63 / 130)}
    assert body["predictions"][1] == {"label": 0, "probability": pytest.approx(0.2)}
    assert (body["model"], body["version"]) == ("heart", "3")
    assert body["requestId"] == answer.headers["x-request-id"]
    assert body["digest"] == answer.headers["slipway-digest"]


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ({**ROW, "age": -5}, "age", "-5 is below the minimum 0 a"),
        ({**ROW, "thal": 9}, "thal", "9 is not one of the codes 3, 6, 7"),
        ({**ROW, "age": "old"}, "age", "value 0 is 'old' (str); FP32 is expected"),
        ({**ROW, "age": None}, "age", "null (missing)"),
        ({**ROW, "agee": 1}, "agee", "is not an input of this model"),
        ({"age": 1, "thal": 3}, "chol", "is missing from the inputs"),
        ({**ROW, "age": [1]}, "age", "list"),
    ],
)
def test_an_invalid_feature_is_named(
    client: Client, row: dict[str, Any], field: str, problem: str
) -> None:
    answer = _predict(client, row)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    (finding,) = answer.json()["errors"]
    assert finding["field"] == field
    assert problem in finding["problem"]


@pytest.mark.parametrize("chol", [10**20, 2**64, -(2**63) - 1, 10**60, 2**64 - 1])
def test_an_integer_of_any_size_is_predicted_or_rejected_by_name(client: Client, chol: int) -> None:
    answer = _predict(client, {**ROW, "chol": chol})
    if 0 <= chol < 10**38:
        assert answer.status_code == 200
        receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
        assert float(
            next(each["data"][0] for each in receipt["request"]["inputs"] if each["name"] == "chol")
        ) == float(chol)
    else:
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("chol: ")


@pytest.mark.parametrize("word", ["NaN", "null"])
def test_nan_is_a_missing_value_where_the_signature_allows_it(client: Client, word: str) -> None:
    answer = client.post(
        "/v1/models/heart/predictions",
        b'{"instances": [{"age": 63, "chol": %s, "thal": 6}]}' % word.encode(),
    )
    assert answer.status_code == 200
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["request"]["inputs"][1]["data"] == [None]


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (b"", 422, "the body is not JSON: it is empty; send a JSON object"),
        (
            b'{"instances": [{"age": 1e400, "chol": 1, "thal": 3}]}',
            422,
            "age: NaN and infinity are not accepted",
        ),
        (b'{"instances": [{"age": NaN, "chol": 1, "thal": 3}]}', 422, "age: NaN"),
        (b'{"instances": []}', 422, "instances"),
        (b'{"rows": []}', 422, "instances"),
        (b'{"instances": [1]}', 422, "row 0"),
        (b"no json", 422, "JSON"),
        (b"[" * 10_000 + b"]" * 10_000, 422, "recursion"),
    ],
)
def test_an_invalid_body_gets_problem_details(
    client: Client, content: bytes, status: int, text: str
) -> None:
    answer = client.post("/v1/models/heart/predictions", content)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["requestId"] == answer.headers["x-request-id"]
    assert text in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/unknown", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/predictions/unknown", 404),
        ("GET", "/v1/predictions/%00", 404),
        ("GET", "/v1/predictions/01a1fe7f-9aad-7d27-9ef4-7134049df474", 404),
        ("POST", "/v1/models/asleep/predictions", 503),
        ("POST", "/v1/models/heart/predictions", 415),
    ],
)
def test_every_error_gets_problem_details(
    client: Client, method: str, path: str, status: int
) -> None:
    content_type = "text/plain" if status == 415 else "application/json"
    headers = {
        "authorization": f"Bearer {client.environment.issuer.token()}",
        "content-type": content_type,
    }
    answer = client.http.request(method, path, headers=headers, content=b'{"instances": [{}]}')
    assert answer.status_code == status
    problem = answer.json()
    assert problem.keys() >= {"type", "title", "status", "detail", "instance", "requestId"}
    assert (problem["status"], problem["instance"]) == (status, unquote(path))
    assert ("allow" in answer.headers) is (status == 405)


def test_models_have_version_readiness_and_signature(client: Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert models["asleep"]["ready"] is False
    assert models["asleep"]["message"] == "suspended by its owner"
    heart = client.get("/v1/models/heart").json()
    assert models["heart"] == {**heart, "example": None, "lifecycle": None}
    assert (heart["ready"], heart["version"], heart["message"]) == (True, "3", "serving")
    assert (heart["description"], heart["owner"]) == ("angiogram", "team-a")
    assert (models["asleep"]["description"], models["asleep"]["owner"]) == (None, None)
    assert [column["name"] for column in heart["signature"]["inputs"]] == ["age", "chol", "thal"]
    assert heart["signature"]["inputs"][2]["codes"] == {
        "3": "normal",
        "6": "fixed defect",
        "7": "reversible defect",
    }


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_receipt_is_the_complete_record_of_a_prediction(client: Client, protocol: str) -> None:
    answer = _predict(client, ROW) if protocol == "v1" else client.infer("heart")
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["requestId"] == answer.headers["x-request-id"]
    assert (receipt["model"], receipt["version"], receipt["role"]) == ("heart", "3", "live")
    assert receipt["digest"] == f"{DIGEST[:-4]}0003"
    assert receipt["runId"] == "run-7"
    assert receipt["dataset"] == {
        "name": "cleveland",
        "digest": "sha256:d",
        "licence": "CC BY 4.0",
        "source": "UCI",
    }
    assert (receipt["gitRevision"], receipt["image"]) == ("0123abc", "slipway/jobs:1")
    assert (receipt["caller"], receipt["decision"], receipt["protocol"]) == (
        "user:ada",
        "predict:user",
        protocol,
    )
    assert (receipt["status"], receipt["feedback"]) == (200, None)
    assert 0 < receipt["latencyMs"] < 10_000
    assert receipt["request"]["inputs"][0]["data"] == [63]
    assert receipt["response"]["model_name"] == "heart"


def test_a_rejected_prediction_has_a_receipt(client: Client) -> None:
    answer = client.post("/v2/models/heart/infer", b"\x00 not \xff text")
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["status"] == 400
    assert receipt["request"] == "\ufffd not \ufffd text"


def test_a_receipt_of_another_caller_is_404_except_for_an_admin(client: Client) -> None:
    request_id = client.infer("heart", "ada").headers["x-request-id"]
    path = f"/v1/predictions/{request_id}"
    other, unknown = client.get(path, "bob"), client.get("/v1/predictions/unknown", "bob")
    assert (other.status_code, unknown.status_code) == (404, 404)
    assert other.json()["detail"] == f"prediction {request_id} does not exist"
    assert client.get(path, "root").json()["caller"] == "user:ada"


def test_only_the_owner_sends_feedback_and_the_latest_applies(client: Client) -> None:
    path = f"/v1/predictions/{client.infer('heart').headers['x-request-id']}"
    first = client.post(f"{path}/feedback", {"label": 0})
    assert first.status_code == 201
    second = client.post(f"{path}/feedback", {"label": 1, "comment": "confirmed"})
    assert client.get(path).json()["feedback"] == second.json()
    assert second.json()["label"] == 1
    assert client.post(f"{path}/feedback", {"label": 1}, "bob").status_code == 404
    assert client.post(f"{path}/feedback", {"label": 1}, "root").status_code == 404


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"label": "a\\u0000b"}', "NUL"),
        (b'{"comment": "' + b"x" * 2001 + b'"}', "2000"),
        (b'{"lable": 1}', "lable"),
        (b'{"label": "' + b"x" * 20_000 + b'"}', "16 KiB"),
        (b"{}", "label"),
    ],
)
def test_feedback_that_cannot_be_stored_is_rejected(
    client: Client, content: bytes, text: str
) -> None:
    path = f"/v1/predictions/{client.infer('heart').headers['x-request-id']}"
    answer = client.post(f"{path}/feedback", content)
    assert answer.status_code == 422
    assert text in answer.json()["detail"]


def test_openapi_has_the_oidc_scheme_and_examples(client: Client, environment: Environment) -> None:
    document = client.get("/v1/openapi.json", who=None).json()
    (scheme,) = document["components"]["securitySchemes"].values()
    assert scheme == {
        "type": "openIdConnect",
        "openIdConnectUrl": f"{environment.issuer.url}/.well-known/openid-configuration",
    }
    assert document["security"] == [{"OpenID Connect": []}]
    paths = document["paths"]
    assert "security" not in paths["/v1/me"]["get"]
    assert "security" not in paths["/v2/models/{model}"]["get"]
    assert [paths[path]["get"]["security"] for path in ("/livez", "/v2")] == [[], []]
    content = document["paths"]["/v1/models/{model}/predictions"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["examples"]


def test_metrics_are_on_a_separate_port(client: Client) -> None:
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"not JSON", 503, "not V2"),
        (
            (
                b'{"model_name": "broken-1", "outputs": [{"name": "label", "shape": [], '
                b'"datatype": "INT64", "data": [1]}]}'
            ),
            500,
            "request id",
        ),
    ],
)
def test_an_invalid_response_of_a_predictor_reveals_no_internal_details(
    new_environment: Callable[[], Environment],
    own_predictor: Predictor,
    body: bytes,
    status: int,
    text: str,
) -> None:
    environment = new_environment()
    environment.model("broken", ("1", 100), url=own_predictor.url)
    own_predictor.raw = body
    with environment.gateway() as client:
        answer = client.post("/v1/models/broken/predictions", {"instances": [ROW]})
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert text in answer.json()["detail"]
        assert answer.json()["requestId"] == answer.headers["x-request-id"]
        assert client.get("/v1/me").status_code == 200


def test_a_response_that_ends_early_gets_503(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    environment = new_environment()
    environment.model("broken", ("1", 100), url=own_predictor.url)
    own_predictor.cut_off = True
    with environment.gateway() as client:
        answer = client.post("/v1/models/broken/predictions", {"instances": [ROW]})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_the_model_card_of_a_version_is_returned_as_markdown(
    new_environment: Callable[[], Environment],
) -> None:
    with Predictor() as predictor:
        predictor.parameters["card"] = "# Heart disease risk\n\nNot a medical device: é.\n"
        environment = new_environment()
        environment.model("heart", ("3", 100), ("2", 0), url=predictor.url)
        with environment.gateway() as client:
            answer = client.get("/v1/models/heart/card")
            assert (answer.status_code, answer.text) == (200, predictor.parameters["card"])
            assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
            assert (
                answer.headers["slipway-version"],
                answer.headers["x-content-type-options"],
            ) == ("3", "nosniff")
            assert client.get("/v1/models/heart/card?version=2").headers["slipway-version"] == "2"
            assert client.get("/v1/models/heart/card?version=9").status_code == 404
            assert "card" not in client.get("/v2/models/heart").json()["parameters"]


def test_a_version_without_a_model_card_is_404(client: Client) -> None:
    answer = client.get("/v1/models/heart/card")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "version 3 of model heart has no model card",
    )
