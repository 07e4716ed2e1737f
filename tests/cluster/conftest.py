"""Clusters under test: the local one, and a real one if SLIPWAY_TEST_KUBERNETES names a namespace.

The namespace is emptied.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_cluster import (
    CLUSTER_SERVING_RUNTIME,
    CLUSTER_STORAGE_CONTAINER,
    CRON_JOB,
    HORIZONTAL_POD_AUTOSCALER,
    INFERENCE_SERVICE,
    JOB,
    LEASE,
    MODEL,
    Cluster,
    connect,
)

from tests.cluster.machine import Machine
from tests.cluster.manifests import LEASED, RUNTIME, SERVICE, STORAGE

NAMESPACE = os.environ.get("SLIPWAY_TEST_KUBERNETES")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine.running(tmp_path / "state") as machine:
        yield machine


@pytest.fixture(params=["local", *(["kubernetes"] if NAMESPACE else [])])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "local":
        machine: Machine = request.getfixturevalue("machine")
        yield machine.cluster
        return
    real = connect(f"kubernetes://{NAMESPACE}")
    _empty(real)
    yield real
    _empty(real)


def _empty(cluster: Cluster) -> None:
    for kind in (CRON_JOB, JOB, MODEL):
        for each in cluster.list(kind):
            cluster.delete(kind, each["metadata"]["name"])
    for kind in (
        INFERENCE_SERVICE,
        CLUSTER_SERVING_RUNTIME,
        CLUSTER_STORAGE_CONTAINER,
        HORIZONTAL_POD_AUTOSCALER,
        LEASE,
    ):
        for name in (SERVICE, RUNTIME, STORAGE, LEASED):
            cluster.delete(kind, name)
