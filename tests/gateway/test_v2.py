"""The Open Inference Protocol at the gateway."""

from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import orjson
import psycopg
import pytest
from slipway_gateway.inference.routing import Target

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.predictor import Predictor
from tests.support.waiting import until


@pytest.fixture
def model(environment: Environment, own_predictor: Predictor) -> Iterator[str]:
    """Yield a model with a predictor that the test can make fail."""
    environment.model("fragile", ("1", 100), url=own_predictor.url)
    yield "fragile"
    environment.delete_model("fragile")


def test_a_prediction_has_the_headers_of_its_version_and_the_public_name(client: Client) -> None:
    answer = client.infer("heart", request_id="mine")
    assert answer.status_code == 200
    assert answer.headers["slipway-model"] == "heart"
    assert answer.headers["slipway-version"] == "3"
    assert answer.headers["slipway-digest"].startswith("sha256:")
    assert len(answer.headers["x-request-id"]) == 36
    assert answer.content.startswith(b'{"model_name":"heart","model_version":"3","id":"mine",')
    assert answer.json()["outputs"][1]["data"] == [pytest.approx(63 / 130)]


def test_request_ids_are_ordered_by_time(client: Client) -> None:
    given = [client.infer("heart").headers["x-request-id"] for _ in range(5)]
    assert given == sorted(set(given))


def test_a_version_without_traffic_can_be_requested_by_name(client: Client) -> None:
    answer = client.post("/v2/models/heart/versions/2/infer", v2_request())
    assert answer.headers["slipway-version"] == "2"
    assert answer.json()["model_name"] == "heart"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/v2/models/unknown/infer", 404, "there is no model unknown"),
        (
            "/v2/models/heart/versions/9/infer",
            404,
            "version 9 of model heart is not served; these are: 3, 2",
        ),
        ("/v2/models/asleep/infer", 503, "suspended by its owner"),
        ("/v2/nothing", 404, "path /v2/nothing does not exist"),
        ("/v2/models/heart", 405, "use GET"),
    ],
)
def test_errors_have_the_form_of_the_protocol(
    client: Client, path: str, status: int, text: str
) -> None:
    answer = client.post(path, v2_request())
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert text in answer.json()["error"]
    assert answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) is (status == 503)


def test_the_error_text_of_the_predictor_is_returned(client: Client) -> None:
    answer = client.infer("heart", age=-5.0)
    assert answer.status_code == 422
    assert answer.json() == {"error": "age: -5 is below the minimum 0 a"}
    assert answer.headers["slipway-version"] == "3"


@pytest.mark.parametrize("content", [b"no json", b"[" * 10_000 + b"]" * 10_000, b"\x00\xff", b""])
def test_an_invalid_body_is_400(client: Client, content: bytes) -> None:
    assert client.post("/v2/models/heart/infer", content).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/csv"},
        {"content_type": "application/octet-stream"},
        {"content_encoding": "br"},
    ],
)
def test_an_unsupported_content_type_or_coding_is_415(
    client: Client, headers: dict[str, str]
) -> None:
    assert client.post("/v2/models/heart/infer", b"{}", **headers).status_code == 415


def test_traffic_is_split_by_the_shares(environment: Environment, client: Client) -> None:
    environment.model("shared", ("1", 90), ("2", 10), ("3", 0))
    route = client.gateway.data.routes.get("shared")
    counts = Counter(route.pick().version for _ in range(20_000))
    assert set(counts) == {"1", "2"}
    # 90 % of 20,000 is 18,000 with a standard deviation of 42.
    assert abs(counts["1"] - 18_000) < 5 * 42


def test_traffic_follows_changes_of_the_models_status(
    environment: Environment, client: Client
) -> None:
    environment.model("moving", ("1", 100))
    assert client.infer("moving").headers["slipway-version"] == "1"
    environment.model("moving", ("1", 0), ("2", 100))
    assert client.infer("moving").headers["slipway-version"] == "2"
    environment.delete_model("moving")
    assert client.infer("moving").status_code == 404


def test_metadata_has_the_public_name_and_all_versions(client: Client) -> None:
    answer = client.get("/v2/models/heart").json()
    assert (answer["name"], answer["versions"]) == ("heart", ["2", "3"])
    assert answer["inputs"][0] == {
        "name": "age",
        "datatype": "FP32",
        "shape": [-1],
        "parameters": {"unit": "a", "minimum": 0.0, "maximum": 130.0},
    }


def test_readiness_of_server_and_models(client: Client) -> None:
    assert client.get("/v2/health/live", who=None).json() == {"live": True}
    assert client.get("/v2/health/ready", who=None).json() == {"ready": True}
    server = client.get("/v2", who=None).json()
    assert (server["name"], server["extensions"]) == ("slipway", ["binary_tensor_data"])
    assert client.get("/v2/models/heart/ready").json() == {"name": "heart", "ready": True}
    assert client.get("/v2/models/heart/versions/2/ready").status_code == 200
    assert client.get("/v2/models/asleep/ready").status_code == 503


def test_a_slow_predictor_is_504_and_logged(
    own_environment: Environment, own_predictor: Predictor
) -> None:
    own_environment.model("slow", ("1", 100), url=own_predictor.url)
    with own_environment.gateway(upstream_timeout_seconds=0.5) as client:
        own_predictor.hold()
        answer = client.infer("slow")
        assert answer.status_code == 504
        assert answer.headers["slipway-version"] == "1"
        receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}")
        assert receipt.json()["status"] == 504


def test_an_unreachable_predictor_is_503_and_logged(
    client: Client, model: str, own_predictor: Predictor
) -> None:
    own_predictor.server.__exit__()
    answer = client.infer(model)
    own_predictor.server.__enter__()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()["status"] == 503
    assert client.infer(model).status_code == 200


def test_an_aborted_response_aborts_the_clients_response(
    client: Client, model: str, own_predictor: Predictor
) -> None:
    own_predictor.cut_off = True
    with pytest.raises(httpx.RemoteProtocolError):
        client.infer(model)


def test_a_long_response_is_streamed_with_the_public_name(
    client: Client, model: str, own_predictor: Predictor
) -> None:
    data = orjson.dumps({"model_name": "fragile-1", "outputs": [{"data": list(range(200_000))}]})
    own_predictor.raw = data
    answer = client.infer(model)
    assert answer.content == data.replace(b"fragile-1", b"fragile", 1)
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["response"] is None


def test_a_long_request_is_streamed(client: Client) -> None:
    rows = 20_000
    request = v2_request()
    for tensor in request["inputs"]:
        tensor["shape"], tensor["data"] = [rows], tensor["data"] * rows
    answer = client.post("/v2/models/heart/infer", request)
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["shape"] == [rows]
    receipt = client.get(f"/v1/predictions/{answer.headers['x-request-id']}").json()
    assert receipt["request"] is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model_name":"fragile-1","id":"x"}', b'{"model_name":"fragile","id":"x"}'),
        (b' {"model_name" : "fragile-1" }', b' {"model_name" : "fragile" }'),
        (
            b'{"id":"fragile-1","model_name":"fragile-1"}',
            b'{"id":"fragile-1","model_name":"fragile"}',
        ),
        (b'{"model_name":"fragile-12"}', b'{"model_name":"fragile-12"}'),
        (
            b'{"id":"\\"model_name\\":\\"fragile-1\\""}',
            b'{"id":"\\"model_name\\":\\"fragile-1\\""}',
        ),
    ],
)
def test_only_the_models_name_is_replaced(
    client: Client, model: str, own_predictor: Predictor, raw: bytes, expected: bytes
) -> None:
    own_predictor.raw = raw
    answer = client.infer(model)
    assert answer.content == expected
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'{"error":"e"}', "e"),
        (b"plain words", "plain words"),
        (b'{"detail":"d"}', "d"),
        (b'{"detail":[1]}', "[1]"),
    ],
)
def test_every_error_of_a_predictor_gets_the_form_of_the_protocol(
    client: Client, model: str, own_predictor: Predictor, raw: bytes, error: str
) -> None:
    own_predictor.raw, own_predictor.status = raw, 500
    answer = client.infer(model)
    assert (answer.status_code, answer.json()) == (500, {"error": error})


def test_a_version_with_another_digest_has_no_metadata(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    own_predictor.parameters["digest"] = "sha256:" + "00" * 32
    environment = new_environment()
    environment.model("swapped", ("1", 100), url=own_predictor.url)
    with environment.gateway() as client:
        answer = client.get("/v2/models/swapped")
        assert answer.status_code == 503
        assert "serves another artifact than its digest names" in answer.json()["error"]


def test_metadata_of_a_runtime_that_proves_no_digest_is_not_that_of_other_models(
    new_environment: Callable[[], Environment], own_predictor: Predictor
) -> None:
    own_predictor.parameters = {"runtime": "another"}
    environment = new_environment()
    environment.model("own", ("1", 100), url=own_predictor.url, verified=False)
    environment.model("plain", ("1", 100))
    with environment.gateway() as client:
        own, plain = (client.get(f"/v2/models/{name}").json() for name in ("own", "plain"))
        assert own["parameters"] == {"runtime": "another"}
        assert "runtime" not in plain["parameters"]
        models = {each["name"]: each for each in client.get("/v1/models").json()["models"]}
        assert models["own"]["digest"] == models["plain"]["digest"]
        assert (models["own"]["verified"], models["plain"]["verified"]) == (False, True)
        for name, proved in (("own", False), ("plain", True)):
            answered = client.infer(name).headers["x-request-id"]
            assert client.get(f"/v1/predictions/{answered}").json()["verified"] is proved

        def names() -> list[str]:
            with psycopg.connect(environment.database_url) as connection:
                return [row[0] for row in connection.execute("SELECT model FROM model_versions")]

        until(names, bool)
        assert names() == ["plain"]


def test_the_live_version_is_the_one_with_the_largest_share(client: Client) -> None:
    live: Target | None = client.gateway.data.routes.get("heart").live
    assert live
    assert live.version == "3"
