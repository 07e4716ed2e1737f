"""The platform of `make kind`, as kubectl and its users see it."""

import base64
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from slipway_cluster import connect

from tests.support.stack import PATIENT, RunningStack, v2
from tests.support.waiting import SECONDS

CLUSTER, NAMESPACE = "slipway", "slipway"
ISSUER = "http://127.0.0.1:8081"
ENV = Path(".slipway/env")


def kubectl(
    *args: str, stdin: str | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run kubectl in the platform's namespace; fail with its output."""
    argv = ["kubectl", "--namespace", NAMESPACE, *args]
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0 or not check, f"{shlex.join(argv)}: {done.stderr}{done.stdout}"
    return done


def helm(*args: str) -> str:
    """Run helm in the platform's namespace; fail with its output."""
    done = subprocess.run(
        ["helm", "--namespace", NAMESPACE, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def objects(kind: str, selector: str = "") -> list[dict[str, Any]]:
    """Return the objects of a kind as JSON."""
    found: list[dict[str, Any]] = json.loads(
        kubectl("get", kind, "--selector", selector, "--output", "json").stdout
    )["items"]
    return found


def secret(name: str) -> dict[str, str]:
    """Return a Secret's values, decoded."""
    data = json.loads(kubectl("get", "secret", name, "--output", "json").stdout)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@dataclass(kw_only=True)
class KindStack(RunningStack):
    """The platform on kind."""

    def pods(self, version: str, model: str = "heart") -> list[dict[str, Any]]:
        """Return the ready predictor pods of a version."""
        found = objects("pods", f"serving.kserve.io/inferenceservice={model}-{version}")
        return [pod for pod in found if ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def logged(self, numbers: list[str]) -> dict[int, int]:
        """Count the request ids by their number in the event log: ``{1: 200}`` is correct."""
        count = (
            "SELECT count(e.request_id) FROM asked LEFT JOIN prediction_events e ON e.request_id "
            "= asked.id GROUP BY asked.id"
        )
        script = [
            "CREATE TEMP TABLE asked (id text);",
            "COPY asked FROM STDIN;",
            *numbers,
            "\\.",
            "CREATE TEMP TABLE found AS",
            count + ";",
            "SELECT count || ' ' || count(*) FROM found GROUP BY count;",
        ]
        output = self.sql("\n".join(script))
        return {
            int(line.split()[0]): int(line.split()[1])
            for line in output.splitlines()
            if line.strip()
        }

    def sql(self, script: str) -> str:
        """Return the output of psql, without headers, for a script in the gateway's database."""
        psql = (
            'PGPASSWORD="$POSTGRES_PASSWORD" psql --username postgres --dbname slipway --quiet '
            "--tuples-only --no-align"
        )
        return kubectl(
            "exec", "--stdin", "slipway-postgresql-0", "--", "sh", "-c", psql, stdin=script
        ).stdout


def answers(stack: KindStack, **changes: float) -> list[httpx.Response]:
    """Return 30 predictions of `heart` on separate connections, so that both gateways get some."""
    url, headers = (
        f"{stack.url}/v2/models/heart/infer",
        {"Authorization": f"Bearer {stack.token('user')}"},
    )
    return [
        httpx.post(url, json=v2(PATIENT | changes), headers=headers, timeout=SECONDS)
        for _ in range(30)
    ]


@contextmanager
def granted(admin: httpx.Client, grantee: str, models: str, policy: str) -> Iterator[None]:
    """Grant access inside the block."""
    grant = {"grantee": grantee, "models": models, "policy": policy}
    made = admin.post("/v1/grants", json=grant).raise_for_status().json()
    try:
        yield
    finally:
        admin.delete(f"/v1/grants/{made['grantId']}").raise_for_status()


def ready(pod: dict[str, Any]) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod.get("status", {}).get("conditions", [])
    )


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> KindStack:
    config = tmp_path_factory.mktemp("kind") / "kubeconfig"
    found = subprocess.run(
        ["kind", "get", "kubeconfig", "--name", CLUSTER],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"there is no platform to test; run `make kind`: {found.stderr}"
    config.write_text(found.stdout)
    config.chmod(0o600)
    os.environ["KUBECONFIG"] = str(config)
    exported = dict(shlex.split(line)[1].split("=", 1) for line in ENV.read_text().splitlines())
    passwords = secret("slipway-identity")
    return KindStack(
        cluster=connect(f"kubernetes://{NAMESPACE}"),
        url=exported["SLIPWAY_URL"],
        mlflow_url=exported["MLFLOW_TRACKING_URI"],
        mlflow_login=(exported["MLFLOW_TRACKING_USERNAME"], exported["MLFLOW_TRACKING_PASSWORD"]),
        issuer=ISSUER,
        passwords={
            name.removeprefix("password-"): value
            for name, value in passwords.items()
            if name.startswith("password-")
        },
    )


@pytest.fixture(scope="session")
def user(stack: KindStack) -> Iterator[httpx.Client]:
    with stack.client("user") as client:
        yield client


@pytest.fixture
def stamp() -> str:
    """Return a text that makes the names of this run unique."""
    return time.strftime("%H%M%S", time.gmtime())
