"""Privileged pods and anonymous callers of MLflow, predictors and PostgreSQL are rejected."""

import json
import subprocess

import httpx

from tests.e2e.conftest import NAMESPACE, KindStack, kubectl, objects, ready
from tests.support.waiting import SECONDS

PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "privileged"},
    "spec": {
        "containers": [
            {"name": "c", "image": "busybox:1.35", "securityContext": {"privileged": True}}
        ]
    },
}


def test_everything_runs_with_restricted_pod_security(stack: KindStack) -> None:
    labels = json.loads(kubectl("get", "namespace", NAMESPACE, "--output", "json").stdout)[
        "metadata"
    ]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    refused = kubectl("apply", "--filename", "-", stdin=json.dumps(PRIVILEGED), check=False)
    assert "violates PodSecurity" in refused.stderr
    running = [pod for pod in objects("pods") if pod["status"]["phase"] == "Running"]
    assert {"gateway", "controller", "mlflow", "identity", "postgresql"} <= {
        pod["metadata"]["labels"].get("app.kubernetes.io/component")
        for pod in running
        if ready(pod)
    }
    assert stack.pods(str(stack.live("heart")))


def test_mlflow_rejects_anonymous_callers(stack: KindStack) -> None:
    search = f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/search"
    assert httpx.get(search, timeout=SECONDS).status_code == 401
    assert httpx.get(search, auth=("admin", "password1234"), timeout=SECONDS).status_code == 401
    assert httpx.get(search, auth=stack.mlflow_login, timeout=SECONDS).status_code == 200


def test_a_predictor_rejects_anonymous_callers(stack: KindStack) -> None:
    name = f"heart-{stack.live('heart')}"
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{name}-predictor:80/proxy/v2/models/{name}"
    # kubectl's message for 401. The API server forwards the predictor's response; the request has
    # the permissions of an administrator.
    assert (
        "asked for the client to provide credentials"
        in kubectl("get", "--raw", path, check=False).stderr
    )
    assert kubectl("get", "--raw", f"{path}/ready").returncode == 0


def test_postgresql_rejects_anonymous_callers(stack: KindStack) -> None:  # noqa: ARG001 - needs a platform
    psql = [
        "psql",
        "--host",
        "slipway-postgresql",
        "--username",
        "slipway",
        "--no-password",
        "--command",
        "SELECT 1",
        "slipway",
    ]
    refused = kubectl("exec", "slipway-postgresql-0", "--", *psql, check=False)
    assert refused.returncode != 0
    assert "no password supplied" in refused.stderr


def test_no_secret_of_the_platform_is_in_a_log(stack: KindStack) -> None:
    secrets = [*stack.passwords.values(), stack.mlflow_login[1] if stack.mlflow_login else ""]
    for pod in objects("pods"):
        name = pod["metadata"]["name"]
        logs = subprocess.run(
            ["kubectl", "--namespace", NAMESPACE, "logs", name, "--all-containers"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        assert [secret for secret in secrets if secret and secret in logs] == [], name
