"""A model's traffic, rollout, example, lifecycle and Events, and the OAuth metadata of the API."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from slipway_cluster.interface import MODEL

from tests.gateway.environment import Client, Environment, v2_request
from tests.gateway.predictor import ROW, Predictor
from tests.support.waiting import wait_for

PATH = "/.well-known/oauth-protected-resource"


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Iterator[Environment]:
    environment = new_environment()
    with Predictor() as predictor:
        predictor.parameters["example"] = v2_request()
        environment.model("heart", ("3", 90), ("4", 10), url=predictor.url)
        environment.model("asleep", message="suspended")
        yield environment


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture(scope="module")
def marie(environment: Environment) -> str:
    return environment.issuer.token("marie", "scientist")


def steps(client: Client, model: str = "heart") -> dict[str, dict[str, Any]]:
    found = client.get(f"/v1/models/{model}").json()["lifecycle"]
    return {each["step"]: each for each in found}


def test_a_model_has_its_traffic_conditions_and_rollout(client: Client) -> None:
    (heart,) = [m for m in client.get("/v1/models").json()["models"] if m["name"] == "heart"]
    assert [(t["version"], t["role"], t["percent"]) for t in heart["traffic"]] == [
        ("3", "live", 90),
        ("4", "canary", 10),
    ]
    assert {"candidate": "4", "live": "3", "percent": 10}.items() <= heart["rollout"].items()
    (condition,) = heart["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert (heart["alias"], heart["registeredModel"]) == ("champion", "heart")
    assert client.get("/v1/models/asleep").json()["rollout"] is None


def test_the_example_is_that_of_the_version_and_valid(client: Client) -> None:
    example = client.get("/v1/models/heart").json()["example"]
    assert example == [ROW]
    answer = client.post("/v1/models/heart/predictions", {"instances": example})
    assert answer.status_code == 200
    assert client.get("/v1/models/asleep").json()["example"] is None


def test_the_lifecycle_has_seven_steps_with_their_facts(
    environment: Environment, client: Client
) -> None:
    assert list(steps(client)) == [
        "train",
        "register",
        "promote",
        "serve",
        "predict",
        "label",
        "monitor",
    ]
    assert {step["state"] for step in list(steps(client, "asleep").values())[:3]} == {"none"}
    assert steps(client, "asleep")["serve"]["state"] == "failed"
    request_id = client.infer("heart").headers["x-request-id"]
    client.get(f"/v1/predictions/{request_id}")  # the receipt ships the event
    feedback = client.post(f"/v1/predictions/{request_id}/feedback", {"label": 1})
    assert feedback.status_code == 201, feedback.text
    with psycopg.connect(environment.database_url) as connection:
        for number in (3, 4):
            connection.execute(
                "INSERT INTO registered_versions (registered_model, number, fingerprint, created, "
                "created_by, run_id) VALUES ('heart', %s, 'f', now(), 'user:sam', 'run-7')",
                [number],
            )
            connection.execute(
                "INSERT INTO version_promotions VALUES ('heart', %s, now(), NULL, 'champion', "
                "'promoted', 'better', 'user:marie', false, NULL)",
                [number],
            )
    found = steps(client)
    assert {name for name, step in found.items() if step["state"] == "done"} == {
        "train",
        "register",
        "promote",
        "serve",
        "predict",
        "label",
    }
    assert (found["register"]["by"], found["promote"]["by"]) == ("user:sam", "user:marie")
    assert found["promote"]["message"] == "better"
    assert (found["predict"]["by"], found["label"]["by"]) == (None, None)
    assert found["register"]["href"] == "/v1/models/heart/versions/3"


def test_a_model_is_described_without_the_tables(own_environment: Environment) -> None:
    own_environment.model("heart", ("3", 100))
    with own_environment.gateway() as client:
        with psycopg.connect(own_environment.database_url) as connection:
            connection.execute("DROP TABLE registered_versions")
        answer = client.get("/v1/models/heart")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        found = steps(client)
        assert {found[step]["state"] for step in ("promote", "predict", "label")} == {"unknown"}
        assert found["serve"]["state"] == "done"


def test_events_of_a_model_are_listed_newest_first(
    environment: Environment, client: Client, marie: str
) -> None:
    about = environment.cluster.get(MODEL, "heart")
    for number in range(3):
        environment.cluster.record(about, reason="TrafficMoved", message=f"move {number}")
    moved = datetime.now(UTC).replace(microsecond=0)  # Events have whole seconds
    wait_for("the next second", lambda: datetime.now(UTC) >= moved + timedelta(seconds=1))
    environment.cluster.record(about, reason="Crashed", message="version 4 ends", warning=True)
    environment.cluster.record(about, reason="Crashed", message="version 4 ends", warning=True)
    answer = client.get("/v1/models/heart/events?limit=1", marie)
    assert answer.status_code == 200, answer.text
    (event,) = answer.json()["events"]
    assert {key: event[key] for key in ("type", "reason", "message", "count", "object")} == {
        "type": "Warning",
        "reason": "Crashed",
        "message": "version 4 ends",
        "count": 2,
        "object": "Model/heart",
    }
    assert len(client.get("/v1/models/heart/events", marie).json()["events"]) == 4
    assert client.get("/v1/models/asleep/events", marie).json() == {"events": []}
    assert client.get("/v1/models/nothing/events", marie).status_code == 404
    assert client.get("/v1/models/heart/events").status_code == 403
    assert client.get("/v1/models/heart/events?limit=501", marie).status_code == 422


def test_a_401_names_the_metadata_with_issuer_and_client(
    environment: Environment, client: Client
) -> None:
    for path in ("/v1/me", "/v2/models/heart"):
        challenge = client.get(path, who=None).headers["www-authenticate"]
        assert challenge.endswith(f', resource_metadata="{client.url}{PATH}"')
    url = challenge.rpartition('resource_metadata="')[2].rstrip('"')
    answer = client.http.get(url)
    assert answer.status_code == 200
    assert answer.json() == {
        "resource": client.url,
        "authorization_servers": [environment.issuer.name],
        "bearer_methods_supported": ["header"],
        "resource_name": "Slipway",
        "resource_documentation": f"{client.url}/v1/docs",
        "slipway_cli_client_id": "slipway",
    }
    assert "resource_metadata" not in client.get("/v1/grants").headers["www-authenticate"]


@pytest.mark.parametrize("host", ['evil"', "a b", "x/../y", "a" * 300, "user@evil"])
def test_a_hostile_host_does_not_reach_the_challenge(client: Client, host: str) -> None:
    answer = client.http.get("/v1/me", headers={"host": host})
    assert answer.status_code in (400, 401)
    assert "resource_metadata" not in answer.headers.get("www-authenticate", "")
    assert client.http.get(PATH, headers={"host": host}).status_code == 400


def test_the_scheme_is_that_of_a_trusted_proxy(own_environment: Environment) -> None:
    sent = {"x-forwarded-proto": "https", "host": "ml.example"}
    with own_environment.gateway() as client:
        assert client.http.get(PATH, headers=sent).json()["resource"] == "http://ml.example"
    with own_environment.gateway(
        trusted_proxies="127.0.0.0/8, ::1/128", cli_client="cli"
    ) as client:
        found = client.http.get(PATH, headers=sent).json()
        assert found["resource"] == "https://ml.example"
        assert found["slipway_cli_client_id"] == "cli"
