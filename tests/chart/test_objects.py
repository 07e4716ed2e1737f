"""Properties of all objects with any values."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.chart import CHART, CHARTS, Rendering, quantity
from tests.support.processes import program

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|JWKS|ACCOUNTS")
NOT_SECRET = ("username", "tracking-uri", "client-id")
"""Suffixes of keys in Secrets that are not secret."""


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the location of kubeconform's schemas."""
    program("kubeconform")
    folder = tmp_path_factory.mktemp("schemas")
    subprocess.run([sys.executable, CHARTS / "schemas.py", folder], check=True)
    return f"{folder}/{{{{ .Group }}}}/{{{{ .ResourceKind }}}}_{{{{ .ResourceAPIVersion }}}}.json"


def conform(schemas: str, text: str) -> subprocess.CompletedProcess[str]:
    command = ["kubeconform", "-strict", "-summary", "-schema-location", schemas]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_objects_conform_to_their_schemas(each: Rendering, schemas: str) -> None:
    done = conform(schemas, each.text)
    assert done.returncode == 0, done.stdout
    assert f"Valid: {len(each.objects)}, Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readinessProbe:", "readynessProbe:"),
        ("containerPort: 9090", "containerPort: ninety"),
        ("supportedUriFormats:", "supportedUriFormat:"),
        ("minReplicas: 2", "minReplicas: '2'"),
        ("parentRefs:", "parentReferences:"),
    ],
)
def test_the_schemas_reject_invalid_objects(schemas: str, right: str, wrong: str) -> None:
    text = subprocess.run(
        ["helm", "template", "x", CHART, "--values", CHART / "ci" / "public.yaml"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert right in text
    assert conform(schemas, text.replace(right, wrong)).returncode != 0


def test_every_pod_is_restricted(each: Rendering) -> None:
    for pod in each.pods:
        assert not any(pod.spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), (
            pod.owner
        )
        assert all("hostPath" not in volume for volume in pod.spec.get("volumes", [])), pod.owner
        for container in pod.containers:
            context = container["securityContext"]
            wanted = {
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert context == wanted, (pod.owner, container["name"])


def test_every_container_has_requests_and_limits(each: Rendering) -> None:
    for pod in each.pods:
        for container in pod.containers:
            resources = container["resources"]
            assert {*resources["requests"]} >= {"cpu", "memory"}, (pod.owner, container["name"])
            assert {*resources["limits"]} >= {"cpu", "memory"}, (pod.owner, container["name"])


def test_every_temporary_volume_has_a_limit_and_every_container_one_of_the_nodes_disk(
    each: Rendering,
) -> None:
    for pod in each.pods:
        volumes = [
            volume["emptyDir"] for volume in pod.spec.get("volumes", []) if "emptyDir" in volume
        ]
        assert all("sizeLimit" in volume for volume in volumes), pod.owner
        for container in pod.containers:
            resources = container["resources"]
            asked, limit = (
                quantity(resources[kind]["ephemeral-storage"]) for kind in ("requests", "limits")
            )
            assert asked <= limit, (pod.owner, container["name"])
        # The kubelet counts volumes and logs together against the limits of the pod's containers.
        room = sum(
            quantity(container["resources"]["limits"]["ephemeral-storage"])
            for container in pod.spec["containers"]
        )
        assert sum(quantity(volume["sizeLimit"]) for volume in volumes) < room, pod.owner


def test_every_image_has_a_tag_and_never_latest(each: Rendering) -> None:
    for pod in each.pods:
        for container in pod.containers:
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert tag, (pod.owner, container["image"])
            assert tag != "latest", (pod.owner, container["image"])


def test_every_object_has_the_recommended_labels(each: Rendering) -> None:
    names = {"name", "instance", "component", "part-of", "version", "managed-by"}
    for found in each.objects:
        labels = found["metadata"].get("labels", {})
        assert {f"app.kubernetes.io/{name}" for name in names} <= labels.keys(), (
            found["kind"],
            found["metadata"]["name"],
        )


def test_secrets_are_in_secrets_only(each: Rendering) -> None:
    rest = "\n---\n".join(
        part for part in each.text.split("\n---\n") if "\nkind: Secret\n" not in part
    )
    for name, value in each.secrets.items():
        if not name.endswith(NOT_SECRET):
            assert value not in rest, name
    assert not re.search(r"://[^/\s@]+:[^/\s@]+@", rest), "a URL with a password"
    for pod in each.pods:
        for container in pod.containers:
            for variable in container.get("env", []):
                if SECRET_NAME.search(variable["name"]):
                    assert "value" not in variable, (pod.owner, variable["name"])


def test_generated_secrets_are_long_and_unique(default: Rendering) -> None:
    values = {
        name: value for name, value in default.secrets.items() if not name.endswith(NOT_SECRET)
    }
    assert all(len(value) >= 20 for value in values.values())
    assert len({*values.values()}) == len(values)


def test_secrets_of_volumes_outlive_the_release_like_the_volumes(default: Rendering) -> None:
    kept = {
        name
        for name, secret in default.of("Secret").items()
        if "helm.sh/resource-policy" in secret["metadata"].get("annotations", {})
    }
    assert kept == {
        "slipway-postgresql", "slipway-database-slipway", "slipway-database-mlflow",
        "slipway-database-identity",
        "slipway-mlflow", "slipway-identity", "slipway-predictor", "slipway-signing",
    }  # fmt: skip
    assert all(
        "helm.sh/resource-policy" in claim["metadata"]["annotations"]
        for claim in default.of("PersistentVolumeClaim").values()
    )


def test_roles_have_only_explicit_permissions(each: Rendering) -> None:
    assert not each.of("ClusterRole")
    assert not each.of("ClusterRoleBinding")
    for name, role in each.of("Role").items():
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"], name
            assert "secrets" not in rule["resources"], name
            assert "pods/exec" not in rule["resources"], name


def test_only_pods_that_use_the_kubernetes_api_have_a_token(each: Rendering) -> None:
    bound = {
        subject["name"]
        for binding in each.of("RoleBinding").values()
        for subject in binding["subjects"]
    }
    for pod in each.pods:
        if pod.owner.startswith("Cluster"):
            continue
        account = pod.spec.get("serviceAccountName")
        assert (pod.spec.get("automountServiceAccountToken") is False) == (account not in bound), (
            pod.owner
        )


def test_every_service_selects_pods_with_its_port(each: Rendering) -> None:
    for name, service in each.of("Service").items():
        found = [
            pod for pod in each.pods if service["spec"]["selector"].items() <= pod.labels.items()
        ]
        assert len(found) == 1, name
        ports = {
            port["name"] for container in found[0].containers for port in container.get("ports", [])
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name


def test_secrets_and_config_maps_that_pods_reference_exist(default: Rendering) -> None:
    secrets, maps = default.of("Secret"), default.of("ConfigMap")
    for pod in default.pods:
        for container in pod.containers:
            for variable in container.get("env", []):
                if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert wanted["key"] in secrets[wanted["name"]]["data"], (
                        pod.owner,
                        variable["name"],
                    )
                elif wanted := variable.get("valueFrom", {}).get("configMapKeyRef"):
                    assert wanted["key"] in maps[wanted["name"]]["data"], (
                        pod.owner,
                        variable["name"],
                    )
        for volume in pod.spec.get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, pod.owner
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets, pod.owner


@pytest.mark.parametrize(
    "script", sorted((CHART / "files").glob("*.sh")), ids=lambda path: path.stem
)
def test_scripts_are_valid(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--shell=bash", "--severity=warning", script], check=True)
