"""Start, supervision and stop of the local stack, without its processes."""

import sqlite3
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from slipway_cluster import JOB
from slipway_local.local_objects import LocalObjects
from slipway_local.screen import Screen
from slipway_local.settings import LocalSettings
from slipway_local.stack import StartFailed, delete_former, running
from slipway_local.standin.kubelet import Kubelet
from slipway_local.standin.local_cluster import LocalCluster
from slipway_local.standin.workload import DEPLOYMENT, PodSpec
from slipway_local.state import State

from tests.cluster.manifests import IMAGE, job
from tests.local.conftest import STOP_SECONDS


def test_unfinished_jobs_with_an_image_of_a_former_version_are_deleted(tmp_path: Path) -> None:
    cluster = LocalCluster(tmp_path)
    for name in ("unfinished", "finished"):
        cluster.create(job(name, "pass"))
    cluster.update_status(JOB, "finished", {"conditions": [{"type": "Complete", "status": "True"}]})
    delete_former(cluster, set(), {IMAGE})
    assert [each["metadata"]["name"] for each in cluster.list(JOB)] == ["finished", "unfinished"]
    delete_former(cluster, set(), {"slipway/jobs:local"})
    assert [each["metadata"]["name"] for each in cluster.list(JOB)] == ["finished"]
    cluster.close()


def test_an_error_of_the_kubelet_is_a_failed_start_with_the_folder_of_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_self: Kubelet, _stop: threading.Event) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Kubelet, "run", run)
    settings = LocalSettings(state=tmp_path)
    with (
        pytest.raises(StartFailed, match=rf"disk I/O error.*{tmp_path}/cluster/logs"),
        running(settings, Screen()) as stack,
    ):
        pytest.fail(f"{stack} is up")


def test_a_stop_takes_less_than_four_minutes(tmp_path: Path) -> None:
    graces: dict[int, int] = defaultdict(int)
    graces[0] = PodSpec.model_fields["termination_grace_period_seconds"].default  # predictors
    for manifest in LocalObjects(LocalSettings(state=tmp_path), State(tmp_path)).manifests():
        if manifest["kind"] == DEPLOYMENT.name:
            pod = PodSpec.model_validate(manifest["spec"]["template"]["spec"])
            graces[pod.priority] = max(graces[pod.priority], pod.termination_grace_period_seconds)
    assert len(graces) == 3
    assert sum(graces.values()) < STOP_SECONDS
