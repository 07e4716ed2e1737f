"""The program that creates MLflow's read-only account, with a real MLflow server."""

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chart.chart import CHART
from tests.support.mlflow_server import ENVIRONMENT, MLFLOW
from tests.support.processes import START_SECONDS, free_port, running_process
from tests.support.waiting import SECONDS, until

ADMIN, READER = ("slipway", "a-password-of-the-admin"), ("predictor", "a-password-of-the-reader")


@pytest.fixture(scope="session")
def helm() -> None:
    """Not needed here."""


def configuration(database: str) -> str:
    """Return the chart's configuration with that database."""
    template = (CHART / "templates" / "mlflow" / "config.yaml").read_text()
    text = template.split("basic_auth.ini: |\n")[1].split("{{- end }}")[0]
    return re.sub(r"{{.*}}", database, textwrap.dedent(text))


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    port = str(free_port())
    config = folder / "basic_auth.ini"
    config.write_text(configuration(f"sqlite:///{folder}/users.db"))
    environment = ENVIRONMENT | {
        "MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key",
    }  # fmt: skip
    command = [
        MLFLOW,
        "server",
        "--app-name",
        "basic-auth",
        "--port",
        port,
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    # The program waits for the server.
    with running_process(command, folder / "log", environment=environment, folder=folder):
        yield f"http://127.0.0.1:{port}"


def make_reader(
    url: str, admin: tuple[str, str] = ADMIN, reader: tuple[str, str] = READER
) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": url, "ADMIN_USERNAME": admin[0], "ADMIN_PASSWORD": admin[1],
        "READER_USERNAME": reader[0], "READER_PASSWORD": reader[1],
    }  # fmt: skip
    program: Path = CHART / "files" / "accounts.py"
    return subprocess.run(
        [sys.executable, program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )


@pytest.mark.slow
def test_the_reader_is_created_once_and_cannot_change_objects_of_others(mlflow: str) -> None:
    # The program waits for a server that is still starting, and is restarted like in a pod.
    first = until(lambda: make_reader(mlflow), lambda done: done.returncode == 0, START_SECONDS)
    assert "created predictor" in first.stderr
    assert make_reader(mlflow).returncode == 0
    with httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow/", timeout=SECONDS) as client:
        assert (
            client.post("registered-models/create", auth=ADMIN, json={"name": "heart"}).status_code
            == 200
        )
        assert (
            client.get("registered-models/get", auth=READER, params={"name": "heart"}).status_code
            == 200
        )
        alias = {"name": "heart", "alias": "champion", "version": "1"}
        assert client.post("registered-models/alias", auth=READER, json=alias).status_code == 403
        assert client.get("registered-models/search").status_code == 401


@pytest.mark.slow
def test_a_wrong_secret_is_reported_immediately_and_without_the_hash(mlflow: str) -> None:
    until(lambda: make_reader(mlflow), lambda done: done.returncode == 0, START_SECONDS)
    began = time.monotonic()
    other = make_reader(mlflow, reader=(READER[0], "another password"))
    assert other.returncode == 1
    assert "another password" in other.stderr
    assert "scrypt" not in other.stderr
    wrong = make_reader(
        mlflow, admin=(ADMIN[0], "wrong"), reader=("unknown", "a password of the unknown")
    )
    assert wrong.returncode == 1
    assert "rejects the password of its administrator" in wrong.stderr
    assert time.monotonic() - began < 100, "less than the attempts of one run"


@pytest.mark.slow
def test_a_changed_password_is_in_effect_at_once(mlflow: str) -> None:
    until(lambda: make_reader(mlflow), lambda done: done.returncode == 0, START_SECONDS)
    name, old, new = "guest", "a-first-password", "another-password"
    with httpx.Client(base_url=f"{mlflow}/api/2.0/mlflow/", timeout=SECONDS) as client:

        def status(password: str) -> int:
            return client.get(
                "registered-models/search", auth=(name, password), params={"max_results": "1"}
            ).status_code

        account = {"username": name, "password": old}
        assert client.post("users/create", auth=ADMIN, json=account).status_code == 200
        assert (status(old), status(old), status(new)) == (200, 200, 401)
        account["password"] = new
        assert client.patch("users/update-password", auth=ADMIN, json=account).status_code == 200
        assert (status(old), status(new)) == (401, 200)
