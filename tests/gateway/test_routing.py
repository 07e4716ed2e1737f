"""The snapshot of the Models and its watch thread, with failures of the cluster."""

import queue
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import pytest
from slipway_cluster.interface import Cluster, ClusterError, Kind, Manifest, WatchEvent
from slipway_contract.model import API_VERSION
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.inference.routing import Routes

from tests.support.skew import of_a_later_release
from tests.support.waiting import wait_for


def _model(name: str, **status: Any) -> Manifest:
    kind = {"apiVersion": API_VERSION, "kind": "Model"}
    return {**kind, "metadata": {"name": name}, "spec": {"registeredModel": name}, "status": status}


class Scripted:
    """A cluster for the watch thread; a queue has its events and failures."""

    def __init__(self, *models: Manifest) -> None:
        self.models = list(models)
        self.events: queue.Queue[WatchEvent | Exception | None] = queue.Queue()
        self.lists = 0

    def list(self, _kind: Kind, _labels: Mapping[str, str] | None = None) -> list[Manifest]:
        self.lists += 1
        return self.models

    def watch(self, _kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        while (event := self.events.get(timeout=timeout)) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def send(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], model: Manifest) -> None:
        self.events.put(WatchEvent(kind, model))


@pytest.fixture
def cluster() -> Scripted:
    return Scripted(_model("one"), _model("two"))


@pytest.fixture
def routes(cluster: Scripted) -> Iterator[Routes]:
    routes = Routes(cast("Cluster", cluster), watch_seconds=20)
    with pytest.raises(Unavailable, match="not known yet"):
        routes.get("one")
    routes.start()
    wait_for("the first snapshot", lambda: routes.snapshot.keys() == {"one", "two"})
    yield routes
    routes.stop()
    cluster.events.put(None)


def test_changes_update_the_snapshot_and_old_snapshots_stay_unchanged(
    cluster: Scripted, routes: Routes
) -> None:
    before = routes.snapshot
    cluster.send("ADDED", _model("three"))
    cluster.send("DELETED", _model("one"))
    wait_for("the changes", lambda: routes.snapshot.keys() == {"two", "three"})
    assert before.keys() == {"one", "two"}
    with pytest.raises(NotFound):
        routes.get("one")


def test_a_deletion_during_a_failure_is_detected_afterwards(
    cluster: Scripted, routes: Routes
) -> None:
    cluster.models = [_model("two")]
    cluster.events.put(ClusterError("connection lost"))
    wait_for("the new list", lambda: routes.snapshot.keys() == {"two"})
    assert routes.age < 5


def test_an_unexpected_error_does_not_end_the_watch(cluster: Scripted, routes: Routes) -> None:
    cluster.events.put(KeyError("unforeseen"))
    cluster.models = [_model("four")]
    wait_for("the new list", lambda: routes.snapshot.keys() == {"four"})


def test_an_invalid_model_does_not_affect_the_others(cluster: Scripted, routes: Routes) -> None:
    cluster.send("MODIFIED", _model("one", traffic="of the next release"))
    wait_for("its end", lambda: routes.snapshot.keys() == {"two"})
    cluster.send("MODIFIED", _model("one"))
    wait_for("its return", lambda: routes.snapshot.keys() == {"one", "two"})


def test_a_model_of_a_later_release_is_routed_by_its_known_fields(
    cluster: Scripted, routes: Routes
) -> None:
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Asleep",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    cluster.send("MODIFIED", of_a_later_release(_model("one", conditions=[ready])))
    wait_for("its status", lambda: routes.get("one").message == "Asleep")
    assert routes.snapshot.keys() == {"one", "two"}
