"""Only one of several controllers acts."""

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


class Unaware(LocalCluster):
    """As each of several clients sees it that ask in the same moment: there is nothing yet."""

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


def test_the_first_holds_it_and_the_second_does_not(cluster: LocalCluster, clock: Clock) -> None:
    first, second = claims(cluster, clock)
    assert not first.hold(), "made, but who made it last is known only at the next look"
    assert first.hold()
    for _ in range(10):
        clock.now += 5
        assert not second.hold()
        assert first.hold()


def test_of_two_who_make_it_at_once_one_holds_it(cluster: LocalCluster, clock: Clock) -> None:
    first, second = claims(Unaware(cluster.root, 2), clock)
    assert [first.hold(), second.hold()] == [False, False]
    assert [first.hold(), second.hold(), first.hold()] == [False, True, False]


def test_a_holder_that_is_gone_is_followed_when_its_time_is_over(
    cluster: LocalCluster, clock: Clock
) -> None:
    first, second = claims(cluster, clock)
    first.hold()
    first.hold()
    assert not second.hold()
    clock.now += 14
    assert not second.hold()
    clock.now += 1
    assert second.hold()
    assert not first.hold(), "a holder that comes back finds that it is none"
    assert cluster.get(LEASE, NAME)["spec"]["leaseTransitions"] == 1


def test_a_released_lease_is_taken_at_once_and_only_by_its_holder_released(
    cluster: LocalCluster, clock: Clock
) -> None:
    first, second = claims(cluster, clock)
    first.hold()
    second.release()
    assert first.hold()
    first.release()
    assert second.hold()
