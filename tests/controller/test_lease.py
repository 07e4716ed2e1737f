"""Leader election: only one of several controllers acts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway_cluster import LEASE, Kind, Manifest, NotFound
from slipway_controller.lease import NAME, Lease
from slipway_local.standin.local_cluster import LocalCluster


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class UnawareCluster(LocalCluster):
    """A cluster as concurrent clients see it: the Lease does not exist for the first reads."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self._times = times

    def get(self, kind: Kind, name: str) -> Manifest:
        if self._times:
            self._times -= 1
            raise NotFound(name)
        return super().get(kind, name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    cluster = LocalCluster(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def claims(cluster: LocalCluster, clock: Clock) -> tuple[Lease, Lease]:
    return Lease(cluster, "a", clock=clock), Lease(cluster, "b", clock=clock)


def test_the_first_claim_holds_the_lease_and_the_second_does_not(
    cluster: LocalCluster, clock: Clock
) -> None:
    first, second = claims(cluster, clock)
    assert not first.hold(), "created, but the next call shows which process created it last"
    assert first.hold()
    for _ in range(10):
        clock.now += 5
        assert not second.hold()
        assert first.hold()


def test_of_two_concurrent_claims_one_holds_the_lease(cluster: LocalCluster, clock: Clock) -> None:
    first, second = claims(UnawareCluster(cluster.root, 2), clock)
    assert [first.hold(), second.hold()] == [False, False]
    assert [first.hold(), second.hold(), first.hold()] == [False, True, False]


def test_an_expired_lease_is_taken_by_the_next_process(cluster: LocalCluster, clock: Clock) -> None:
    first, second = claims(cluster, clock)
    first.hold()
    first.hold()
    assert not second.hold()
    clock.now += 14
    assert not second.hold()
    clock.now += 1
    assert second.hold()
    assert not first.hold(), "the former holder has lost the lease"
    assert cluster.get(LEASE, NAME)["spec"]["leaseTransitions"] == 1


def test_only_the_holder_releases_a_lease_which_is_then_taken_immediately(
    cluster: LocalCluster, clock: Clock
) -> None:
    first, second = claims(cluster, clock)
    first.hold()
    second.release()
    assert first.hold()
    first.release()
    assert second.hold()
