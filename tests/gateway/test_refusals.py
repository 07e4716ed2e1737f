"""Error responses: their statements are true, and their remedies work."""

from typing import Any

import pytest
from slipway_gateway.errors import NotFound

from tests.gateway.access import RULES, TABLE
from tests.gateway.environment import Client
from tests.gateway.predictor import ROW

HEALTH = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")


@pytest.mark.parametrize("path", HEALTH)
def test_health_is_answered_to_head_without_a_token(client: Client, path: str) -> None:
    answer = client.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/v2/models/heart", "/v2", "/v1/models/unknown", "/v1/nothing", "/v1/docs"],
)
def test_head_has_the_headers_of_get_and_no_content(client: Client, path: str) -> None:
    headers = {
        "authorization": f"Bearer {client.environment.issuer.token()}",
        "accept-encoding": "identity",
    }
    get, head = client.http.get(path, headers=headers), client.http.head(path, headers=headers)
    assert head.content == b""
    assert head.status_code == get.status_code
    for name in ("content-type", "content-length"):
        assert head.headers[name] == get.headers[name]
    assert client.http.get("/livez").status_code == 200  # the connection is still in sync


def test_head_of_a_path_without_get_is_405(client: Client) -> None:
    answer = client.http.head("/v2/models/heart/infer")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.http.post("/livez").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        (
            "POST",
            "/v1/models/heart:predict",
            "POST /v1/models/heart/predictions, or tensors to POST /v2/models/heart/infer",
        ),
        ("GET", "/v1/models/heart:predict", "POST /v1/models/heart/predictions"),
        ("POST", "/v1/models/heart/versions/3:predict", "POST /v1/models/heart/predictions"),
        ("POST", "/v1/models/heart:explain", "POST /v1/models/heart/predictions"),
        ("POST", "/v1/models/heart/predict", "POST /v1/models/heart/predictions"),
        ("POST", "/v2/models/heart/predictions", "POST /v1/models/heart/predictions"),
        ("GET", "/v1/models/", "use /v1/models, without the extra slash"),
        (
            "POST",
            "/v2/models/heart/infer/",
            "use /v2/models/heart/infer, without the extra slash",
        ),
        ("GET", "//v2/health/ready", "use /v2/health/ready, without the extra slash"),
        ("GET", "/v2/models", "GET /v1/models lists the models"),
        ("POST", "/v2/repository/index", "GET /v1/models lists the models"),
        ("GET", "/healthz", "send probes to GET /livez and /readyz"),
        ("GET", "/openapi.json", "/v1/openapi.json"),
        ("GET", "/", "GET /v1/docs describes the API"),
    ],
)
def test_an_unknown_path_is_404_with_the_correct_one(method: str, path: str, instead: str) -> None:
    with pytest.raises(NotFound) as refused:
        TABLE.match(method, path)
    assert str(refused.value).startswith(f"path {path} does not exist; ")
    assert instead in str(refused.value)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.method} {rule.path}")
def test_a_path_with_a_trailing_slash_is_404_with_the_correct_one(rule: Any) -> None:
    path = rule.path.replace("{", "").replace("}", "")
    with pytest.raises(NotFound, match=f"use {path}, without the extra slash"):
        TABLE.match(rule.method, f"{path}/")
    assert TABLE.match(rule.method, path)[0].method == rule.method


def test_the_error_for_a_long_path_is_short() -> None:
    for path in (
        "/" * 30_000,
        "/v1/models/" + "a" * 30_000 + ":predict",
        "/v2/models/" + "a" * 30_000 + "/infer/",
    ):
        with pytest.raises(NotFound) as refused:
            TABLE.match("POST", path)
        assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/heart/predictions", {"instances": [ROW]}),
        ("/v1/predictions/none/feedback", {"label": 1}),
    ],
)
def test_curls_default_content_type_is_415_with_the_header_to_send(
    client: Client, path: str, body: Any
) -> None:
    answer = client.post(path, body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 415
    expected = (
        "content type application/x-www-form-urlencoded is not supported; send the header "
        "Content-Type: application/json"
    )
    assert answer.json()["detail"].startswith(expected)
    assert client.post(path, body, content_type="application/json").status_code != 415


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "the body is empty; send a JSON object"),
        (b"{", "the body is not JSON: Expecting property name"),
        (b'{"label": 1, "lable": 2}', "lable: is not a field of this body; omit it"),
        (b"{}", "has neither label nor comment; send at least one"),
    ],
)
def test_an_invalid_body_of_the_control_api_is_422_with_the_reason(
    client: Client, content: bytes, detail: str
) -> None:
    answer = client.post("/v1/predictions/none/feedback", content)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)


def test_an_invalid_name_is_422_with_the_pattern(client: Client) -> None:
    admin = client.environment.issuer.token("root", groups=["admin"])
    for name in ("my policy", "my.policy"):
        headers = {"authorization": f"Bearer {admin}"}
        answer = client.http.post("/v1/policies", json={"name": name}, headers=headers)
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"].startswith(
            f"name: '{name}' does not match the pattern ^[a-z0-9]"
        )
