"""The response cache that both gateways share through Redis."""

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.conftest import KindStack, answers, granted, kubectl, objects
from tests.support.waiting import wait_for

REDIS = "app.kubernetes.io/component=redis"
COMPUTED, FROM_ANOTHER, OWN = "computed", "from another", "own"


@pytest.fixture
def cached(stack: KindStack, stamp: str) -> Iterator[None]:
    """Users get responses of `heart` that are up to five minutes old."""
    policy = f"cached-{stamp}"
    with stack.client("admin") as admin:
        admin.post("/v1/policies", json={"name": policy, "cacheSeconds": 300}).raise_for_status()
        with granted(admin, "group:user", "heart", policy):
            wait_for(
                "the grant on both gateways",
                lambda: all("cache-status" in answer.headers for answer in answers(stack, age=40)),
            )
            yield
        admin.delete(f"/v1/policies/{policy}").raise_for_status()


def source(answer: httpx.Response) -> str:
    """Return the origin of a response according to its Cache-Status."""
    assert answer.status_code == 200
    ours = answer.headers["cache-status"].split(", ")
    if ours[-1].startswith("Slipway; hit"):
        return OWN
    return FROM_ANOTHER if ours[0].startswith("Slipway-Redis; hit") else COMPUTED


def sources(stack: KindStack, age: float) -> Counter[str]:
    return Counter(map(source, answers(stack, age=age)))


@pytest.mark.usefixtures("cached")
def test_a_gateway_gets_responses_of_the_other_from_redis_and_computes_them_without_it(
    stack: KindStack,
) -> None:
    assert len(objects("pods", "app.kubernetes.io/component=gateway")) == 2
    ages = iter(range(43, 120))
    # A gateway that got no answer in time waits some seconds before the next attempt.
    wait_for(
        "answers to be shared",
        lambda: sources(stack, next(ages)) == {COMPUTED: 1, FROM_ANOTHER: 1, OWN: 28},
    )
    kubectl("scale", "deployment/slipway-redis", "--replicas=0")
    try:
        wait_for("the end of Redis", lambda: not objects("pods", REDIS))
        assert sources(stack, 42) == {COMPUTED: 2, OWN: 28}
    finally:
        kubectl("scale", "deployment/slipway-redis", "--replicas=1")
    kubectl("rollout", "status", "deployment/slipway-redis", "--timeout=300s")
    wait_for("answers to be shared again", lambda: sources(stack, next(ages))[FROM_ANOTHER] == 1)
