"""The command ``slipway`` declares, reads and deletes Models through a gateway."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slipway.project import create_project
from slipway_cluster.interface import MODEL, NotFound

from tests.documents import ROOT, blocks
from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import Issuer
from tests.support.processes import installed
from tests.support.waiting import wait_for

SLIPWAY = str(installed("slipway", ".venv"))
PAGE = ROOT / "docs/how-to/logging.md"


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    environment.model("sleeping", message="no version")
    return environment


@pytest.fixture(scope="module")
def client(environment: Environment) -> Iterator[Client]:
    with environment.gateway() as client:
        yield client


@pytest.fixture
def access(client: Client, issuer: Issuer) -> dict[str, str]:
    """Return the variables of a scientist."""
    return {"SLIPWAY_URL": client.url, "SLIPWAY_TOKEN": issuer.token("marie", "scientist")}


def slipway(*arguments: str, access: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SLIPWAY, *arguments], env=os.environ | access, capture_output=True, text=True, check=False
    )


def test_the_state_of_all_models_is_a_table(access: dict[str, str]) -> None:
    done = slipway("get", access=access)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "NAME      READY  VERSION  MESSAGE",
        "heart     yes    3        serving",
        "sleeping  no     -        no version",
    ]


def test_the_state_of_a_model_is_json_for_programs(access: dict[str, str]) -> None:
    done = slipway("get", "heart", "-o", "json", access=access)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "3"


def test_an_unknown_model_and_an_invalid_token_are_refused(access: dict[str, str]) -> None:
    done = slipway("get", "none", access=access)
    assert done.returncode == 3
    assert done.stderr.startswith("slipway: there is no model none\nrequest ID: ")
    done = slipway("get", access=access | {"SLIPWAY_TOKEN": "x.y.z"})
    assert done.returncode == 5
    assert "token" in done.stderr


def test_the_model_of_a_new_project_is_declared_and_deleted(
    environment: Environment, access: dict[str, str], tmp_path: Path
) -> None:
    """Run the commands of docs/how-to/logging.md."""
    create_project("lost-customers", tmp_path / "project")
    (page,) = [each.commands for each in blocks(PAGE) if "slipway apply" in each.commands]
    lines = [line for line in page.splitlines() if line.startswith("slipway ")]
    printed = []
    for line in lines:
        if "delete" in line:
            found = environment.cluster.get(MODEL, "lost-customers")
            assert found["spec"]["registeredModel"] == "lost-customers"
        if "get" in line:
            wait_for(
                "the route of the Model",
                lambda: slipway("get", "lost-customers", access=access).returncode == 0,
            )
        done = subprocess.run(
            [SLIPWAY, *line.split()[1:]], cwd=tmp_path / "project", env=os.environ | access,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines()[-1])
    assert printed[0] == "model lost-customers: created"
    assert printed[1].startswith("lost-customers  no ")
    assert printed[2] == "model lost-customers: deletion has started"
    with pytest.raises(NotFound):
        environment.cluster.get(MODEL, "lost-customers")


def test_apply_waits_for_a_version_and_ends_with_the_reason_if_there_is_none(
    environment: Environment, access: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("kind: Model\nmetadata: {name: waits}\nspec: {registeredModel: waits}\n")
    done = slipway("apply", "-f", str(file), "--wait", "1", access=access)
    assert done.returncode == 4
    assert done.stdout == "model waits: created\n"
    assert done.stderr.startswith("slipway: model waits: does not serve as declared after 1 s: ")
    environment.model("waits", ("1", 100))
    assert slipway("apply", "-f", str(file), "--wait", "1", access=access).returncode == 4, (
        "the status is that of a former declaration"
    )
    model = environment.cluster.get(MODEL, "waits")
    observed = {**model["status"], "observedGeneration": model["metadata"]["generation"]}
    environment.cluster.update_status(MODEL, "waits", observed)
    done = slipway("apply", "-f", str(file), "--wait", "60", access=access)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "model waits: serving"


def test_an_invalid_field_is_named(access: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text("kind: Model\nmetadata: {name: churn}\nspec: {scale: {maxReplicas: 0}}\n")
    done = slipway("apply", "-f", str(file), access=access)
    assert done.returncode == 3
    assert "spec.scale.maxReplicas" in done.stderr
