"""The snapshot of the Models, kept by a thread, against a cluster that misbehaves."""

import queue
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

import pytest
from slipway_cluster.interface import Cluster, ClusterError, Kind, Manifest, WatchEvent
from slipway_contract.model import API_VERSION
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.inference.routing import Routes

from tests.gateway.loopback import wait_for
from tests.skew import of_a_later_release


def _model(name: str, **status: Any) -> Manifest:
    kind = {"apiVersion": API_VERSION, "kind": "Model"}
    return {**kind, "metadata": {"name": name}, "spec": {"registeredModel": name}, "status": status}


class Scripted:
    """The part of a Cluster that a watcher uses; events and failures are put into a queue."""

    def __init__(self, *models: Manifest) -> None:
        self.models = list(models)
        self.happens: queue.Queue[WatchEvent | Exception | None] = queue.Queue()
        self.lists = 0

    def list(self, _kind: Kind, _labels: Mapping[str, str] | None = None) -> list[Manifest]:
        self.lists += 1
        return self.models

    def watch(self, _kind: Kind, *, timeout: float | None = None) -> Iterator[WatchEvent]:
        while (event := self.happens.get(timeout=timeout)) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def tell(self, kind: Literal["ADDED", "MODIFIED", "DELETED"], model: Manifest) -> None:
        self.happens.put(WatchEvent(kind, model))


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
    cluster.happens.put(None)


def test_changes_are_followed_and_an_old_snapshot_stays_as_it_was(
    cluster: Scripted, routes: Routes
) -> None:
    before = routes.snapshot
    cluster.tell("ADDED", _model("three"))
    cluster.tell("DELETED", _model("one"))
    wait_for("the changes", lambda: routes.snapshot.keys() == {"two", "three"})
    assert before.keys() == {"one", "two"}
    with pytest.raises(NotFound):
        routes.get("one")


def test_what_went_away_during_a_failure_is_noticed_afterwards(
    cluster: Scripted, routes: Routes
) -> None:
    cluster.models = [_model("two")]
    cluster.happens.put(ClusterError("connection lost"))
    wait_for("the new list", lambda: routes.snapshot.keys() == {"two"})
    assert routes.age < 5


def test_a_bug_in_the_watch_does_not_end_it(cluster: Scripted, routes: Routes) -> None:
    cluster.happens.put(KeyError("unforeseen"))
    cluster.models = [_model("four")]
    wait_for("the new list", lambda: routes.snapshot.keys() == {"four"})


def test_a_model_that_is_not_understood_leaves_the_others_alone(
    cluster: Scripted, routes: Routes
) -> None:
    cluster.tell("MODIFIED", _model("one", traffic="of the next release"))
    wait_for("its end", lambda: routes.snapshot.keys() == {"two"})
    cluster.tell("MODIFIED", _model("one"))
    wait_for("its return", lambda: routes.snapshot.keys() == {"one", "two"})


def test_a_model_of_a_later_release_is_routed_by_what_is_known_of_it(
    cluster: Scripted, routes: Routes
) -> None:
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Asleep",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    cluster.tell("MODIFIED", of_a_later_release(_model("one", conditions=[ready])))
    wait_for("its status", lambda: routes.get("one").message == "Asleep")
    assert routes.snapshot.keys() == {"one", "two"}
