"""Rollbacks over HTTP: the field of the Model, the refusals, and the result of the controller."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from slipway_cluster.interface import MODEL, Manifest
from slipway_gateway.control import rollbacks
from slipway_gateway.control.alias_moves import AliasMoves
from slipway_gateway.postgresql.database import Database

from tests.gateway.environment import Client, Environment
from tests.support.waiting import SECONDS, wait_for


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    return new_environment()


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture(scope="module")
def marie(environment: Environment) -> str:
    return environment.issuer.token("marie", "scientist")


def serve(environment: Environment, name: str, alias: str | None, **roles: str) -> None:
    """Declare a model whose versions have these roles; ``roles`` are by age, the oldest first."""
    environment.model(name, *((version.lstrip("v"), 0) for version in roles))
    status = stored(environment, name)["status"]
    for age, (target, role) in enumerate(zip(status["traffic"], roles.values(), strict=True)):
        since = datetime.now(UTC) + timedelta(seconds=age)
        share = {"live": 100}.get(role, 0)
        target |= {"role": role, "percent": share, "since": since.isoformat()}
    status |= {"aliasVersion": alias} if alias else {}
    environment.cluster.update_status(MODEL, name, status)


def stored(environment: Environment, name: str) -> Manifest:
    return environment.cluster.get(MODEL, name)


def declared(environment: Environment, name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = stored(environment, name)["spec"].get("rollback")
    return found


def acted(
    environment: Environment, name: str, state: str, message: str, version: str | None = None
) -> None:
    """Write the status of a rollback as the controller does, once the field is declared."""

    def found() -> Manifest | None:
        model = stored(environment, name)
        field = model["spec"].get("rollback")
        return model if field and version in (None, field["version"]) else None

    model = wait_for("the field", found)
    rollback = {**model["spec"]["rollback"], "state": state, "message": message}
    generation = model["metadata"]["generation"]
    status = {**model["status"], "rollback": rollback, "observedGeneration": generation}
    environment.cluster.update_status(MODEL, name, status)


def roll_back(client: Client, who: str, name: str, **body: Any) -> httpx.Response:
    return client.post(f"/v1/models/{name}/rollback", {"reason": "wrong scores", **body}, who)


def rollback_entries(client: Client, name: str) -> list[Any]:
    found = client.get("/v1/audit?limit=1000", "root").json()["entries"]
    return [
        (each["subject"], each["detail"])
        for each in found
        if (each["action"], each["thing"]) == ("model.rollback", f"models/{name}")
    ]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the route wait for the controller of the test, however slow it is."""
    monkeypatch.setattr(rollbacks, "WAIT_SECONDS", SECONDS)


@pytest.mark.usefixtures("patient")
def test_a_rollback_declares_the_former_version_and_returns_what_the_controller_did(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "quick", "3", v1="previous", v2="previous", v3="live")
    with ThreadPoolExecutor() as controller:
        acting = controller.submit(acted, environment, "quick", "Serving", "version 2 serves")
        answer = roll_back(client, marie, "quick")
        acting.result()
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "model": "quick",
        "version": "2",
        "insteadOf": ["3"],
        "reason": "wrong scores",
        "state": "Serving",
        "message": "version 2 serves",
    }
    field = declared(environment, "quick")
    assert field
    assert field["version"] == "2"
    assert rollback_entries(client, "quick") == [("user:marie", {"rollback": field})]
    again = roll_back(client, marie, "quick")
    assert again.json() == answer.json()
    assert declared(environment, "quick") == field
    assert len(rollback_entries(client, "quick")) == 1


def test_without_a_controller_the_answer_is_in_time_and_the_field_is_declared(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "alone", "2", v1="previous", v2="live")
    began = time.monotonic()
    answer = roll_back(client, marie, "alone", version="9")
    assert time.monotonic() - began < 10  # 2 s on a quiet machine
    assert (answer.status_code, answer.json()["state"]) == (202, "Requested")
    field = declared(environment, "alone")
    assert field
    assert (field["version"], field["insteadOf"]) == ("9", ["2"])


def test_a_rollback_of_a_rollback_replaces_both_versions_and_can_be_undone(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "twice", "3", v1="previous", v2="previous", v3="live")
    roll_back(client, marie, "twice")
    roll_back(client, marie, "twice", version="1")
    field = declared(environment, "twice")
    assert field
    assert (field["version"], field["insteadOf"]) == ("1", ["3", "2"])
    undone = roll_back(client, marie, "twice", version="3")
    assert (undone.status_code, undone.json()["version"]) == (202, "3")
    assert declared(environment, "twice") is None
    assert rollback_entries(client, "twice")[0] == ("user:marie", {"rollback": None})


def test_a_canary_or_a_failing_version_is_replaced_by_the_live_one(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "failing", "3", v1="previous", v2="live")
    assert roll_back(client, marie, "failing").json()["version"] == "2"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"version": "3"}, "version: the alias points to version 3; name another one"),
        ({}, "version: no former version is kept; name a registry version"),
        ({"version": "latest"}, "version: 'latest' does not match the pattern"),
        ({"version": "1", "reason": ""}, "reason: "),
        ({"version": "1", "reason": " "}, "reason: ' ' does not match the pattern"),
        ({"version": "1", "reason": None}, "reason: "),
        ({"version": "1", "reason": "a\nb"}, "reason: "),
        ({"version": "1", "insteadOf": ["3"]}, "insteadOf: is not a field"),
    ],
)
def test_an_invalid_rollback_is_422_with_the_field(
    environment: Environment, client: Client, marie: str, body: dict[str, Any], problem: str
) -> None:
    serve(environment, "single", "3", v3="live")
    answer = roll_back(client, marie, "single", **body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(problem)
    assert declared(environment, "single") is None


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("name", ["unknown", "unknown-again"])
def test_a_version_that_the_registry_does_not_have_is_422_and_the_former_field_is_restored(
    environment: Environment, client: Client, marie: str, name: str
) -> None:
    serve(environment, name, "2", v1="previous", v2="live")
    if name == "unknown-again":
        former = {"version": "1", "insteadOf": ["2"], "reason": "wrong scores"}
        found = stored(environment, name)
        environment.cluster.replace({**found, "spec": {**found["spec"], "rollback": former}})
        acted(environment, name, "Serving", "version 1 serves")
    before = declared(environment, name)
    with ThreadPoolExecutor() as controller:
        acting = controller.submit(
            acted, environment, name, "Failed", "the registry has no", version="7"
        )
        answer = roll_back(client, marie, name, version="7")
        acting.result()
    assert answer.status_code == 422
    assert answer.json()["detail"] == "version: the registry has no"
    assert declared(environment, name) == before


def test_a_repeated_request_does_not_return_to_the_version_that_was_replaced(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "ended", "1", v2="previous", v1="live")
    last = {"version": "1", "insteadOf": ["2"], "reason": "wrong scores", "state": "Ended"}
    status = {**stored(environment, "ended")["status"], "rollback": last}
    environment.cluster.update_status(MODEL, "ended", status)
    for body in ({}, {"version": "1"}):
        answer = roll_back(client, marie, "ended", **body)
        assert answer.status_code == 202, answer.text
        assert (answer.json()["version"], answer.json()["state"]) == ("1", "Ended")
    other = roll_back(client, marie, "ended", reason="another one")
    assert other.status_code == 422
    assert other.json()["detail"].startswith("version: no former version is kept")
    assert declared(environment, "ended") is None
    assert rollback_entries(client, "ended") == []
    again = roll_back(client, marie, "ended", version="2")
    assert (again.status_code, again.json()["version"]) == (202, "2")


def test_without_a_version_a_failed_rollback_is_replaced_by_the_version_that_serves(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "held", "2", v2="previous", v1="live")
    failed = {"version": "99", "insteadOf": ["2", "1"], "reason": "wrong scores"}
    found = stored(environment, "held")
    environment.cluster.replace({**found, "spec": {**found["spec"], "rollback": failed}})
    acted(environment, "held", "Failed", "the registry has no")
    assert roll_back(client, marie, "held").json()["version"] == "1"
    assert (declared(environment, "held") or {})["insteadOf"] == ["2"]


def test_a_model_that_is_deleted_meanwhile_is_404(
    environment: Environment, client: Client, marie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(environment, "fleeting", "2", v1="previous", v2="live")
    replace = environment.cluster.replace

    def deleted_first(manifest: Manifest) -> Manifest:
        environment.cluster.delete(MODEL, "fleeting")
        return replace(manifest)

    monkeypatch.setattr(environment.cluster, "replace", deleted_first)
    assert roll_back(client, marie, "fleeting").status_code == 404


def test_a_model_without_an_alias_is_a_conflict(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "unread", None, v1="previous", v2="live")
    answer = roll_back(client, marie, "unread")
    assert answer.status_code == 409
    assert "status.aliasVersion" in answer.json()["detail"]
    assert roll_back(client, marie, "absent").status_code == 404


def test_a_move_without_a_promotion_is_in_the_audit_once_for_all_replicas(
    environment: Environment, client: Client
) -> None:
    serve(environment, "bypassed", "2", v1="previous", v2="live")

    def move(version: str) -> None:
        since = datetime.now(UTC).isoformat()
        status = stored(environment, "bypassed")["status"]
        unpromoted = {"version": version, "since": since}
        environment.cluster.update_status(MODEL, "bypassed", {**status, "unpromoted": unpromoted})

    async def restarted() -> None:
        """Act as two replicas that have just started."""
        database = Database(environment.database_url)
        replicas = [AliasMoves(database, client.gateway.data.routes) for _ in range(2)]
        await asyncio.gather(*(replica.once() for replica in replicas))
        await database.close()

    def moves(count: int) -> list[Any]:
        found = client.get("/v1/audit?limit=1000", "root").json()["entries"]
        thing = "registry/bypassed/aliases/champion"
        seen = [each for each in found if each["thing"] == thing]
        return seen if len(seen) >= count else []

    move("2")
    (entry,) = wait_for("the entry", lambda: moves(1))
    assert (entry["subject"], entry["action"]) == (":unknown", "alias.move")
    assert (entry["detail"]["to"], entry["detail"]["model"]) == ("2", "bypassed")
    asyncio.run(restarted())
    move("1")
    routes = client.gateway.data.routes
    wait_for(
        "the status",
        lambda: (found := routes.get("bypassed").model.status.unpromoted) and found.version == "1",
    )
    asyncio.run(restarted())
    assert [each["detail"]["to"] for each in wait_for("the second", lambda: moves(2))] == ["1", "2"]


def test_only_scientists_and_admins_roll_back(environment: Environment, client: Client) -> None:
    serve(environment, "guarded", "2", v1="previous", v2="live")
    for role, status in (("user", 403), ("viewer", 403), ("scientist", 202)):
        token = environment.issuer.token("eve", role)
        assert roll_back(client, token, "guarded").status_code == status


def test_a_file_that_is_applied_again_does_not_end_a_rollback(
    environment: Environment, client: Client, marie: str
) -> None:
    serve(environment, "kept", "2", v1="previous", v2="live")
    roll_back(client, marie, "kept")
    field = declared(environment, "kept")
    assert field

    def put(**spec: Any) -> int:
        headers = {"authorization": f"Bearer {marie}"}
        body = {"metadata": {"name": "kept"}, "spec": {"registeredModel": "kept", **spec}}
        return client.http.put("/v1/models/kept", json=body, headers=headers).status_code

    assert put(owner="team-a") == 200
    assert stored(environment, "kept")["spec"] == {
        "registeredModel": "kept",
        "owner": "team-a",
        "rollback": field,
    }
    assert put(rollback=None) == 200
    assert declared(environment, "kept") is None
