"""Backup and restore with the commands of docs/how-to/operations.md."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.conftest import KindStack, helm, kubectl
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "slipway-backups"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
CONNECTED = {"gateway": 2, "worker": 1, "controller": 1, "mlflow": 1, "identity": 1}
"""Deployments that use the databases or the registry, and their replicas."""

SALES = (
    "SELECT count(*), md5(string_agg(sale::text, '|' ORDER BY store_id, product_id, day)) FROM "
    "warehouse.sales sale"
)


@pytest.fixture
def backups() -> Iterator[None]:
    """Enable the chart's backups for a test."""
    kubectl("apply", "--filename", "-", stdin=json.dumps(CLAIM))
    switch_backups("backup.enabled=true,backup.claim=slipway-backups")
    yield
    switch_backups("backup.enabled=false")


def switch_backups(values: str) -> None:
    helm(
        "upgrade",
        "slipway",
        "charts/slipway",
        "--reuse-values",
        "--wait",
        "--timeout",
        "5m",
        "--set",
        values,
    )


@pytest.mark.usefixtures("backups")
def test_a_restore_brings_back_rows_versions_and_artifacts(
    stack: KindStack, user: httpx.Client, stamp: str
) -> None:
    live = stack.live("heart")
    number = user.post("/v2/models/heart/infer", json=v2(PATIENT)).headers["X-Request-ID"]
    wait_for("the prediction to be in the log", lambda: stack.logged([number]) == {1: 1})
    run("etl", f"etl-{stamp}")
    sales = stack.sql(SALES)
    run("slipway-backup", f"backup-{stamp}")

    stack.sql("DELETE FROM warehouse.sales WHERE units > 3; CREATE SCHEMA later")
    run("etl", f"etl-again-{stamp}")
    stack.sql("TRUNCATE prediction_events")
    assert stack.logged([number]) == {0: 1}
    stack.move_alias("heart", None)
    kubectl("exec", "deployment/slipway-mlflow", "--", "sh", "-c", "rm -r /mlflow/artifacts/*")

    for deployment in CONNECTED:
        kubectl("scale", "deployment", f"slipway-{deployment}", "--replicas=0")
    busy = "app.kubernetes.io/component in (gateway, worker, mlflow, identity)"
    kubectl("wait", "--for=delete", "pod", "--selector", busy, "--timeout=300s")
    run("slipway-restore", f"restore-{stamp}")
    for deployment, replicas in CONNECTED.items():
        kubectl("scale", "deployment", f"slipway-{deployment}", f"--replicas={replicas}")
    for deployment in CONNECTED:
        kubectl("rollout", "status", "deployment", f"slipway-{deployment}", "--timeout=300s")

    assert stack.logged([number]) == {1: 1}
    assert stack.sql(SALES) == sales
    assert stack.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'later'").strip() == "0"
    databases = stack.sql(
        "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
    ).split()
    assert databases == ["identity", "mlflow", "postgres", "slipway"]
    wait_for("the former version to be live", lambda: stack.live("heart") == live, START_SECONDS)
    # A new predictor needs the artifacts.
    kubectl("delete", "pod", "--selector", f"serving.kserve.io/inferenceservice=heart-{live}")
    wait_for("a new predictor", lambda: stack.pods(str(live)), START_SECONDS)
    receipt = wait_for("the former receipt", lambda: receipt_of(user, number), START_SECONDS)
    assert receipt["version"] == live


def run(template: str, name: str) -> None:
    """Run a Job from a template to its end; fail with its log."""
    kubectl("create", "job", name, f"--from=cronjob/{template}")
    ended = wait_for(f"Job {name}", lambda: end_of(name), START_SECONDS)
    assert ended == "Complete", kubectl("logs", f"job/{name}").stdout


def end_of(job: str) -> str | None:
    """Return Complete or Failed after the end of a Job; earlier conditions do not count."""
    conditions = kubectl(
        "get", "job", job, "--output", 'jsonpath={.status.conditions[?(@.status=="True")].type}'
    ).stdout.split()
    return next((each for each in conditions if each in ("Complete", "Failed")), None)


def receipt_of(user: httpx.Client, number: str) -> dict[str, object] | None:
    """Return a receipt, or None while the platform restarts."""
    try:
        answer = user.get(f"/v1/predictions/{number}")
    except httpx.TransportError:
        return None
    return dict(answer.json()) if answer.is_success else None
