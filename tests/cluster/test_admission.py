"""Admission of the local cluster: it rejects, by field name, what it does not support."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway_cluster import MODEL, Cluster, ClusterError, Invalid, Manifest, connect
from slipway_local.standin.local_cluster import LocalCluster

from tests.cluster.manifests import container, cron_job, job, model, runtime, service, storage
from tests.support import skew


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path)
    yield cluster
    cluster.close()


def with_container(**fields: Any) -> Manifest:
    manifest = job("train", "pass")
    manifest["spec"]["template"]["spec"]["containers"][0] |= fields
    return manifest


def with_pod(**fields: Any) -> Manifest:
    manifest = job("train", "pass")
    manifest["spec"]["template"]["spec"] |= fields
    return manifest


def with_predictor(**fields: Any) -> Manifest:
    manifest = service()
    manifest["spec"]["predictor"] |= fields
    return manifest


POD = "spec.template.spec"


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (
            with_container(
                env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]
            ),
            f"{POD}.containers[0].env[0].valueFrom",
        ),
        (with_container(env=[{"name": "A", "value": 1}]), f"{POD}.containers[0].env[0].value"),
        (with_container(envFrom=[]), f"{POD}.containers[0].envFrom"),
        (
            with_container(livenessProbe={"tcpSocket": {"port": 1}}),
            f"{POD}.containers[0].livenessProbe.tcpSocket",
        ),
        (
            with_container(volumeMounts=[{"name": "absent", "mountPath": "/data"}]),
            "'absent', which is not among the volumes",
        ),
        (
            with_container(readinessProbe={"httpGet": {"port": "web"}}),
            "'web', which is not among the container's ports",
        ),
        (
            with_container(ports=[{"containerPort": 53, "protocol": "UDP"}]),
            f"{POD}.containers[0].ports[0].protocol",
        ),
        (with_pod(containers=[container("pass"), container("pass")]), f"{POD}.containers"),
        (
            with_pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
            f"{POD}.volumes[0].persistentVolumeClaim",
        ),
        (
            with_pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
            f"{POD}.volumes[0]: needs one of emptyDir, hostPath, secret and configMap",
        ),
        (with_pod(hostNetwork=True), f"{POD}.hostNetwork"),
        (with_pod(restartPolicy="Always"), f"{POD}.restartPolicy"),
        (
            with_container(
                env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]
            ),
            f"{POD}.containers[0].env[0].valueFrom.fieldRef.fieldPath",
        ),
        (job("train", "pass", parallelism=2), "completions and parallelism above 1"),
        (job("train", "pass", completionMode="Indexed", completions=0), "spec.completions"),
        (job("train", "pass", completionMode="Sideways"), "spec.completionMode"),
        (
            job("train", "pass", completionMode="Indexed", backoffLimitPerIndex=1),
            "spec.backoffLimitPerIndex",
        ),
        (cron_job("train", "pass", timeZone="Mars/Olympus"), "spec.timeZone"),
        (cron_job("train", "pass", schedule="0 0 0 * * *"), "spec.schedule"),
        (cron_job("train", "pass", schedule="61 * * * *"), "spec.schedule"),
        (cron_job("train", "pass", concurrencyPolicy="Perhaps"), "spec.concurrencyPolicy"),
        (with_predictor(containers=[]), "spec.predictor.containers"),
        (
            {**service(), "spec": {"predictor": service()["spec"]["predictor"], "transformer": {}}},
            "spec.transformer",
        ),
        (runtime(env=[{"name": "A", "valueFrom": {}}]), "spec.containers[0].env[0].valueFrom"),
        (
            {**storage(), "spec": {**storage()["spec"], "supportedUriFormats": [{}]}},
            "spec.supportedUriFormats[0]",
        ),
        (model("Heart"), "metadata.name"),
        (
            {**model(), "spec": {**model()["spec"], "registredModel": "x"}},
            "spec.registredModel: unknown field",
        ),
        (
            {**model(), "spec": {**model()["spec"], "scale": {"replicas": 2}}},
            "spec.scale.replicas: unknown field",
        ),
        (
            {**model(), "spec": {**model()["spec"], "allowFormats": ["safetensors"]}},
            "spec.allowFormats[0]",
        ),
        ({**job("train", "pass"), "apiVersion": "batch/v2"}, "apiVersion"),
        ({**job("train", "pass"), "kind": "Deployment"}, "kind"),
        (
            {**job("train", "pass"), "metadata": {"name": "t", "labels": {"a": 1}}},
            "metadata.labels['a']",
        ),
    ],
)
def test_an_unsupported_field_is_rejected_by_name(
    store: LocalCluster, manifest: Manifest, field: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        store.apply(manifest)
    assert field in str(refusal.value)


def test_fields_without_effect_on_a_process_are_accepted(store: LocalCluster) -> None:
    manifest = with_container(
        resources={"requests": {"cpu": "1"}}, securityContext={"runAsNonRoot": True}
    )
    manifest["spec"]["template"]["spec"] |= {
        "serviceAccountName": "jobs",
        "automountServiceAccountToken": False,
    }
    store.apply(manifest)


def test_defaults_are_those_of_the_api_server(store: LocalCluster) -> None:
    spec = store.apply(cron_job("train", "pass", suspend=True))["spec"]
    assert (
        spec["concurrencyPolicy"],
        spec["successfulJobsHistoryLimit"],
        spec["failedJobsHistoryLimit"],
    ) == ("Allow", 3, 1)
    manifest = job("train", "pass")
    del manifest["spec"]["backoffLimit"]
    assert store.apply(manifest)["spec"]["backoffLimit"] == 6


def test_an_invalid_status_of_a_model_is_rejected(store: LocalCluster) -> None:
    store.apply(model())
    with pytest.raises(Invalid, match=r"status\.observedGeneration"):
        store.update_status(MODEL, "heart", {"observedGeneration": "many"})


def test_the_status_of_a_model_that_a_later_release_wrote_can_be_updated(
    store: LocalCluster,
) -> None:
    store.apply(model())
    skew.store(store, "heart")
    status = {"observedGeneration": 2, skew.INVENTED: 1}
    assert store.update_status(MODEL, "heart", status)["status"] == status
    with pytest.raises(Invalid, match=rf"spec\.{skew.INVENTED}: unknown field"):
        store.apply(skew.of_a_later_release(model()))


def test_a_suspended_schedule_stays_suspended_when_its_manifest_does_not_set_it(
    store: LocalCluster,
) -> None:
    manifest = cron_job("train", "pass")
    del manifest["spec"]["suspend"]
    store.apply(manifest)
    store.suspend("train", True)
    assert store.apply(manifest)["spec"]["suspend"] is True


def test_a_url_selects_the_cluster(tmp_path: Path) -> None:
    local: Cluster = connect(f"local://{tmp_path}")
    assert local.list(MODEL) == []
    for wrong in ("local://relative", "kubernetes://", "http://x", "kubernetes://a/b"):
        with pytest.raises(ClusterError, match=r"is not a (cluster|folder)"):
            connect(wrong)
