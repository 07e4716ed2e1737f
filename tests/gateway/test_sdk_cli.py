"""The commands of ``slipway`` that use a platform, against a real gateway."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from slipway import Client, cli, operations
from slipway.cli.platform import all_pages
from slipway.cli.predictions import _outcome, _typed

from tests.gateway.environment import Client as GatewayClient
from tests.gateway.environment import Environment
from tests.gateway.predictor import ROW
from tests.support.waiting import wait_for

PAIRS = [f"{name}={value}" for name, value in ROW.items()]


@pytest.fixture(scope="module")
def served(new_environment: Callable[[], Environment]) -> Environment:
    environment = new_environment()
    environment.model("heart", ("3", 100), description="angiogram", owner="team-a")
    return environment


@pytest.fixture(scope="module")
def gateway(served: Environment) -> Iterator[GatewayClient]:
    with served.gateway() as client:
        yield client


class Shell:
    """A shell of a caller."""

    def __init__(self, url: str, token: str, folder: Path) -> None:
        self.variables = {
            "SLIPWAY_URL": url,
            "SLIPWAY_TOKEN": token,
            "XDG_CONFIG_HOME": str(folder),
            "XDG_STATE_HOME": str(folder),
        }

    def __call__(self, *arguments: str) -> Result:
        """Run ``slipway`` as its entry point does."""

        @click.command(context_settings={"ignore_unknown_options": True})
        def program() -> None:
            cli.main([*arguments])

        return CliRunner(env=self.variables).invoke(program, [])

    def json(self, *arguments: str) -> Any:
        done = self(*arguments, "-o", "json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def ada(gateway: GatewayClient, served: Environment, tmp_path: Path) -> Shell:
    return Shell(gateway.url, served.issuer.token("ada", "user"), tmp_path)


@pytest.fixture
def root(gateway: GatewayClient, served: Environment, tmp_path: Path) -> Shell:
    return Shell(gateway.url, served.issuer.token("root", "admin"), tmp_path)


def test_models_are_a_table_json_csv_or_names(ada: Shell, gateway: GatewayClient) -> None:
    lines = ada("models").stdout.splitlines()
    assert lines[0].split() == ["NAME", "READY", "VERSION", "MESSAGE"]
    assert lines[1].split() == ["heart", "yes", "3", "serving"]
    assert "\x1b" not in ada("models").stdout
    assert ada.json("models") == gateway.get("/v1/models").json()
    assert ada("models", "-o", "name").stdout == "heart\n"
    assert ada("models", "-o", "csv").stdout.splitlines()[0].startswith("name,ready,version,")
    assert "DIGEST" in ada("models", "-o", "wide").stdout
    shown = ada("model", "heart").stdout
    assert "team-a" in shown
    assert "age" in shown


def test_a_row_is_predicted_labelled_and_has_a_receipt(ada: Shell, tmp_path: Path) -> None:
    done = ada("predict", "heart", "--row", *PAIRS)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.split()[:2] == ["LABEL", "PROBABILITY"]
    assert done.stderr.startswith("request ID: ")
    key = done.stderr.split()[2]
    assert ada("label", key, "1").stdout == "labelled 1 predictions\n"
    receipt = ada.json("receipt", key)
    assert (receipt["requestId"], receipt["feedback"]["label"]) == (key, 1)
    rows = tmp_path / "rows.csv"
    rows.write_text("age,chol,thal\n63,233,6\n67,,3\n")
    answer = ada.json("predict", "heart", str(rows))
    assert len(answer["predictions"]) == 2
    predicted = ada("predict", "heart", str(rows), "-o", "csv").stdout
    (tmp_path / "labels.csv").write_text(predicted)
    assert ada("label", str(tmp_path / "labels.csv")).stdout == "labelled 1 predictions\n"


def test_an_error_has_its_problem_its_request_and_the_exit_status(
    ada: Shell, root: Shell, tmp_path: Path
) -> None:
    bad = ["age=167", *PAIRS[1:]]
    done = ada("predict", "heart", "--row", *bad)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("slipway: age: ")
    assert "\nrequest ID: " in done.stderr
    assert ada("models", "--profile", "none").exit_code == 2
    assert ada("predict", "heart").exit_code == 2
    assert ada("predict", "heart", str(tmp_path / "no.csv")).exit_code == 2
    assert ada("modles").exit_code == 2
    assert root("receipt", "0190a6b2-0000-7000-8000-000000000000").exit_code == 3
    away = Shell("http://127.0.0.1:9", "t", tmp_path)
    assert away("models").exit_code == 1
    expired = Shell(ada.variables["SLIPWAY_URL"], "unknown", tmp_path)
    assert expired("whoami").exit_code == 5
    broken = Shell(ada.variables["SLIPWAY_URL"], "secret\ntoken", tmp_path)("whoami")
    assert (broken.exit_code, "secret" in broken.stderr) == (2, False)
    nowhere = Shell("http://[::1", "t", tmp_path)("whoami")
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)
    assert Shell(ada.variables["SLIPWAY_URL"], "", tmp_path)("whoami").exit_code == 5


def test_a_label_may_be_negative_and_is_text(ada: Shell) -> None:
    key = ada("predict", "heart", "--row", *PAIRS).stderr.split()[2]
    assert ada("label", key, "-2", "--comment", "none").stdout == "labelled 1 predictions\n"
    assert ada.json("receipt", key)["feedback"]["label"] == -2
    assert ada("label", key, "--coment", "1").exit_code == 2
    texts = ["007", "no", " -3.5", "", '["a", 1]', '"7"', "[open"]
    assert [_outcome(each) for each in texts] == ["007", "no", "-3.5", None, ["a", 1], "7", "[open"]


def test_cells_have_the_datatypes_of_the_inputs() -> None:
    kinds = {"a": "BOOL", "b": "BOOL", "c": "BYTES", "d": "FP32", "e": "BOOL"}
    signature = {"inputs": [{"name": name, "datatype": kind} for name, kind in kinds.items()]}
    row = {"a": "True", "b": "FALSE", "c": "True", "d": "1.5", "e": ""}
    assert _typed(row, signature) == {"a": True, "b": False, "c": "True", "d": 1.5, "e": None}


def test_a_training_here_has_no_options_of_the_platform(ada: Shell) -> None:
    for option in ("--curl", "--wait"):
        done = ada("train", "churn.task:task", option)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"slipway: {option}: is for a training on the platform")


def test_the_file_of_a_result_is_checked_before_the_request(ada: Shell, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("age\n1\n")
    for name, problem in (("out.txt", "has no known format"), ("no/out.csv", "cannot be written")):
        done = ada("batch", "heart", str(rows), "--save", str(tmp_path / name))
        assert done.exit_code == 2
        assert problem in done.stderr


def test_a_table_has_no_control_characters_of_others(ada: Shell, served: Environment) -> None:
    served.model("odd", ("3", 100), message="\x1b[2Jgone\nnext")
    try:
        shown = ada("models").stdout
        assert "\x1b" not in shown
        assert len(shown.splitlines()) == 3
    finally:
        served.delete_model("odd")


def test_a_request_is_shown_as_curl_and_not_sent(ada: Shell, served: Environment) -> None:
    before = len(served.predictor.asked)
    done = ada("predict", "heart", "--row", *PAIRS, "--curl")
    assert (done.exit_code, len(served.predictor.asked)) == (0, before)
    token = ada.variables["SLIPWAY_TOKEN"]
    assert token not in done.stdout
    run = subprocess.run(
        ["bash", "-c", done.stdout], env={**ada.variables, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(run.stdout)["predictions"]) == 1


def test_tasks_are_stored_and_listed(ada: Shell) -> None:
    task = ada.json("predict", "heart", "--row", *PAIRS, "--async")["taskId"]
    assert task in ada("tasks", "-o", "name").stdout.split()
    assert ada.json("task", task)["model"] == "heart"


def test_an_admin_grants_revokes_and_reads_the_audit(root: Shell, ada: Shell) -> None:
    made = root.json("grant", "ada", "heart*", "--policy", "default")
    assert made["grantee"] == "user:ada"
    assert made["grantId"] in root("grants", "--grantee", "user:ada", "-o", "name").stdout
    assert root("revoke", made["grantId"]).exit_code == 0
    actions = [each["action"] for each in root.json("audit", "--limit", "2")["entries"]]
    assert actions == ["grant.delete", "grant.create"]
    assert ada("audit").exit_code == 3
    assert ada("usage").exit_code == 0
    assert ada.json("whoami")["account"] == "ada"


def test_an_admin_lists_versions_and_their_service(root: Shell, ada: Shell) -> None:
    assert root("versions", "heart").stdout.split()[:2] == ["VERSION", "ALIASES"]
    assert ada("versions", "heart").exit_code == 3


def test_a_list_has_the_objects_of_all_pages(ada: Shell, gateway: GatewayClient) -> None:
    for _ in range(3):
        assert ada("predict", "heart", "--row", *PAIRS).exit_code == 0
    with Client(gateway.url, ada.variables["SLIPWAY_TOKEN"]) as client:

        def listed(limit: int) -> list[str]:
            found = all_pages(client, operations.list_predictions, "predictions", limit=limit)
            return [each["requestId"] for each in found["predictions"]]

        wait_for("the predictions in the list", lambda: len(listed(100)) >= 3 or None)
        assert listed(2) == listed(100)


def test_a_rollback_needs_a_reason_and_a_former_version(root: Shell) -> None:
    assert root("rollback", "heart").exit_code == 2
    done = root("rollback", "heart", "--reason", "wrong scores")
    assert done.exit_code == 3, done.stderr


def test_help_imports_few_modules() -> None:
    code = "import sys; from slipway.cli import main\ntry: main(['--help'])\n"
    code += "finally: print(len(sys.modules), *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, *modules = done.stderr.split()
    heavy = {"httpx2", "msgspec", "yaml", "pydantic", "numpy", "pandas", "rich", "asyncio"}
    assert heavy & set(modules) == set()
    assert int(number) < 260, number
    assert "predict" in done.stdout
