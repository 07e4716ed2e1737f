"""Planes of the gateway as processes of their own: each serves its routes and no others."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from os import environ

import pytest
from pydantic import ValidationError

from tests.gateway.environment import Client, Environment, Process, running, variables
from tests.gateway.predictor import ROW

DATA = (
    "this gateway serves the plane inference (SLIPWAY_GATEWAY_PLANES); the path belongs to control"
)
CONTROL = (
    "this gateway serves the plane control (SLIPWAY_GATEWAY_PLANES); the path belongs to inference"
)
MODULES = """
import sys
from slipway_cluster import connect
from slipway_gateway.app import Gateway
from slipway_gateway.settings import Settings
settings = Settings()
Gateway(settings, connect(settings.cluster))
planes = ("slipway_gateway.control", "slipway_gateway.people")
print(*(name for name in sys.modules if name.startswith(planes)))
"""


@pytest.fixture(scope="module")
def shared(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    return environment


@pytest.fixture(scope="module")
def data(shared: Environment) -> Iterator[Process]:
    with running(shared, gateway_planes="inference") as process:
        yield process


@pytest.fixture(scope="module")
def control(shared: Environment) -> Iterator[Process]:
    spool = shared.folder / "spool-of-control"
    with running(shared, gateway_planes="control", spool=spool) as process:
        yield process


def predict(client: Client) -> str:
    answer = client.post("/v1/models/heart/predictions", {"instances": [ROW]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["requestId"])


def test_the_data_plane_predicts_and_returns_receipts(data: Process) -> None:
    client = data.client
    assert client.infer("heart").status_code == 200
    assert client.get("/v2/models/heart/ready").status_code == 200
    assert client.get(f"/v1/predictions/{predict(client)}").json()["model"] == "heart"
    assert client.get("/v1/predictions").json()["predictions"][0]["model"] == "heart"
    assert client.post("/v1/models/heart/predictions", {}, None).status_code == 401
    for path in ("/livez", "/readyz", "/v2/health/ready"):
        assert client.get(path, who=None).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/models/heart/trainings", "/v1/grants", "/v1/users", "/v1/docs"]
)
def test_the_data_plane_has_no_route_of_the_control_plane(data: Process, path: str) -> None:
    answer = data.client.get(path, "root")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["detail"]) == (404, DATA)


def test_a_wrong_path_of_the_data_plane_is_no_path_of_the_control_plane(data: Process) -> None:
    assert data.client.get("/v1/models/heart/predictions").status_code == 405
    assert "does not exist" in data.client.get("/v2/models/heart/predictions").json()["error"]
    hint = data.client.post("/v1/models/heart:predict", {}).json()["detail"]
    assert "send named rows to POST /v1/models/heart/predictions" in hint


def test_the_control_plane_manages_and_does_not_predict(control: Process, data: Process) -> None:
    client = control.client
    for path in ("/v1/models", "/v1/models/heart", "/v1/grants", "/v1/usage", "/v1/docs"):
        assert client.get(path, "root").status_code == 200, path
    answer = client.post("/v1/models/heart/predictions", {"instances": [ROW]})
    assert (answer.status_code, answer.json()["detail"]) == (404, CONTROL)
    answer = client.get(f"/v1/predictions/{predict(data.client)}")
    assert (answer.status_code, answer.json()["detail"]) == (404, CONTROL)
    answer = client.infer("heart")
    assert (answer.status_code, answer.json()) == (404, {"error": CONTROL})


def test_the_document_of_the_control_plane_describes_predictions(control: Process) -> None:
    paths = control.client.get("/v1/openapi.json").json()["paths"]
    assert {"/v1/models/heart/predictions", "/v1/predictions/{request_id}", "/v1/grants"} <= set(
        paths
    )


@pytest.mark.parametrize("planes", ["", " , ", "inference,people"])
def test_an_unknown_plane_is_rejected(shared: Environment, planes: str) -> None:
    with pytest.raises(ValidationError, match="list of the planes inference, control"):
        shared.settings(gateway_planes=planes)


@pytest.mark.parametrize("planes", ["inference", "inference,control"])
def test_a_process_loads_only_its_planes(shared: Environment, planes: str) -> None:
    settings = shared.settings(gateway_planes=planes, spool=shared.folder / "spool-of-modules")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MODULES],
        env={**environ, **variables(settings, shared.database_url)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "slipway_gateway.people" not in done.stdout  # there is no SCIM
    assert ("slipway_gateway.control" in done.stdout) == ("control" in planes)
