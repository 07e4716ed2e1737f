"""`helm uninstall` leaves the documented objects, and a new install reuses them."""

import re
import subprocess
from contextlib import suppress

import httpx
import pytest

from tests.e2e.conftest import KindStack, helm, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

NAMESPACED = (
    "all,ingresses,networkpolicies,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,persistentvolumeclaims,"
    "poddisruptionbudgets,inferenceservices,models.serving.slipway.dev"
)
CLUSTER_WIDE = "clusterroles,clusterrolebindings,clusterservingruntimes,clusterstoragecontainers"
OF_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
DOCUMENTED = re.compile(
    r"persistentvolumeclaim/(data-slipway-postgresql-0|slipway-mlflow|slipway-backups)"
    r"|secret/slipway-(postgresql|database-\w+|mlflow|identity|predictor|signing)"
    r"|lease\.coordination\.k8s\.io/slipway-controller"
    r"|pod/slipway-test"
)


def test_an_uninstall_leaves_data_and_secrets_and_a_new_install_reuses_them(
    stack: KindStack, user: httpx.Client
) -> None:
    live = stack.live("heart")
    number = user.post("/v2/models/heart/infer", json=v2(PATIENT)).headers["X-Request-ID"]
    wait_for("the prediction to be in the log", lambda: stack.logged([number]) == {1: 1})

    kubectl("delete", "models.serving.slipway.dev", "--all", "--timeout=300s")
    helm("uninstall", "slipway", "--wait", "--timeout", "5m")
    with suppress(AssertionError):  # the next line reports the remaining objects
        wait_for("the end of undocumented objects", lambda: not undocumented(), START_SECONDS)
    assert undocumented() == []
    assert objects("persistentvolumeclaims")
    assert kubectl("get", "crd", "models.serving.slipway.dev").returncode == 0

    again = subprocess.run(
        ["make", "kind"], capture_output=True, text=True, check=False, timeout=600
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert stack.logged([number]) == {1: 1}
    assert stack.live("heart") == live
    assert not [job for job in objects("jobs") if job["metadata"]["name"].startswith("train-")], (
        "no training should be necessary"
    )
    assert user.get(f"/v1/predictions/{number}").json()["version"] == live


def undocumented() -> list[str]:
    """Return the names of remaining objects that docs/how-to/operations.md does not list."""
    left = kubectl("get", NAMESPACED, "--output", "name").stdout.split()
    shared = kubectl(
        "get", CLUSTER_WIDE, "--selector", "app.kubernetes.io/name=slipway", "--output", "name"
    ).stdout.split()
    return [
        name for name in {*left, *shared} - OF_EVERY_NAMESPACE if not DOCUMENTED.fullmatch(name)
    ]
