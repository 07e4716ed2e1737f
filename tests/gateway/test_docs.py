"""The OpenAPI document and its page."""

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from jsonschema import Draft202012Validator
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import Datatype
from slipway_gateway.preprocessing.schema import example, row_schema

from tests.gateway.environment import Client, Environment
from tests.gateway.predictor import ROW

PATH = "/v1/models/heart/predictions"


def _operation(client: Client, who: str | None = "ada") -> Any:
    return client.get("/v1/openapi.json", who).json()["paths"][PATH]["post"]


def test_the_document_contains_no_model_without_a_token(client: Client) -> None:
    assert "heart" not in "".join(client.get("/v1/openapi.json", who=None).json()["paths"])
    assert client.get("/v1/openapi.json", "no.good.token").status_code == 401


def test_a_model_has_a_typed_schema_and_a_valid_example(client: Client) -> None:
    operation = _operation(client)
    content = operation["requestBody"]["content"]["application/json"]
    row = content["schema"]["properties"]["instances"]["items"]
    assert row["properties"]["age"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 130,
        "description": "in a",
    }
    assert row["properties"]["thal"]["enum"] == [3, 6, 7]
    assert row["required"] == ["age", "chol", "thal"]
    Draft202012Validator(content["schema"]).validate({"instances": [{**ROW, "chol": None}]})
    answer = client.post(PATH, content["example"])
    assert answer.status_code == 200
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["allOf"][1]
    Draft202012Validator(schema).validate(answer.json())


def test_the_document_contains_only_granted_and_served_models(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("secret", ("1", 100))
    environment.model("asleep", message="suspended")
    with psycopg.connect(environment.database_url) as connection:
        connection.execute("DELETE FROM grants WHERE models = '*' AND grantee = 'group:user'")
        connection.execute("INSERT INTO grants VALUES ('1', 'user:ada', 'heart', 'default')")
    with environment.gateway() as client:
        paths = {
            who: client.get("/v1/openapi.json", who).json()["paths"].keys()
            for who in ("ada", "bob", "root")
        }
    assert PATH in paths["ada"]
    assert PATH not in paths["bob"]
    assert "/v1/models/secret/predictions" in paths["root"]
    assert not any("secret" in path for path in paths["ada"] | paths["bob"])
    assert not any("asleep" in path for path in paths["root"])


def test_examples_match_their_signatures() -> None:
    signature = Signature(
        inputs=(
            Column(name="count", datatype=Datatype.INT8, minimum=2.5, maximum=3.4),
            Column(name="low", datatype=Datatype.UINT8, minimum=7),
            Column(name="high", datatype=Datatype.FP64, maximum=-2.5),
            Column(name="any", datatype=Datatype.INT64),
            Column(name="flag", datatype=Datatype.BOOL),
            Column(name="text", datatype=Datatype.BYTES),
            Column(name="image", datatype=Datatype.FP32, shape=(2, 3), minimum=0, maximum=1),
            Column(name="gap", datatype=Datatype.FP32, missing=True),
            Column(name="plan", datatype=Datatype.BYTES, categories=("basic", "gold")),
        ),
        outputs=(Column(name="label", datatype=Datatype.INT64),),
    )
    row = example(signature)
    signature.request([row])
    Draft202012Validator(row_schema(signature.inputs)).validate(row)


def test_the_page_needs_no_external_resources(client: Client, environment: Environment) -> None:
    page = client.get("/v1/docs", who=None)
    policy = page.headers["content-security-policy"]
    assert f"connect-src 'self' {environment.issuer.url};" in policy
    assert "script-src 'self';" in policy
    links = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(links) == 3
    assert "http" not in page.text
    for link in links:
        asset = client.http.get(f"/v1/{link}")
        assert (asset.status_code, asset.headers["cache-control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
        assert asset.headers["content-encoding"] == "gzip"
        again = client.http.get(
            f"/v1/{link}",
            headers={"if-none-match": asset.headers["etag"], "accept-encoding": "identity"},
        )
        assert (again.status_code, again.content) == (304, b"")
    assert 'data-client="slipway"' in page.text


def test_an_asset_of_another_release_is_not_cached(client: Client) -> None:
    asset = client.http.get("/v1/docs/docs.js?0123", headers={"accept-encoding": "identity"})
    assert asset.headers["cache-control"] == "no-cache"
    assert "SwaggerUIBundle" in asset.text
    assert client.http.get("/v1/docs/core.py").status_code == 404


def test_the_login_redirect_runs_only_its_own_script(client: Client) -> None:
    page = client.get("/v1/docs/login?code=x", who=None)
    script = page.text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page.headers["content-security-policy"]
    assert page.text.count("<script") == 1


@pytest.mark.parametrize("path", ["/v1/me", "/v1/openapi.json"])
def test_personal_responses_are_not_cached(client: Client, path: str) -> None:
    assert client.get(path).headers["cache-control"] == "no-store"


def test_the_document_without_models_is_small_and_describes_each_problem_once(
    client: Client,
) -> None:
    answer = client.http.get("/v1/openapi.json")
    assert len(answer.content) < 100_000
    document = answer.json()
    assert answer.text.count("problem details (RFC 9457)") == 1
    referenced = set(re.findall(r'"#/components/(\w+)/(\w+)"', answer.text))
    assert ("responses", "Problem") in referenced
    assert ("parameters", "model") in referenced
    assert [name for kind, name in referenced if name not in document["components"][kind]] == []
