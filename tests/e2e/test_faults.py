"""20 requests per second while parts of the platform change or fail."""

import time
from collections.abc import Callable

from tests.e2e.conftest import KindStack, helm, kubectl, objects, ready
from tests.support.load import Load
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

SETTLED = 60
"""Consecutive successful responses that end a disturbance."""


def disturbed(stack: KindStack, disturb: Callable[[], object]) -> Load:
    """Send 20 requests/s before, during and after; compare the event log with the responses."""
    with Load(
        stack.url, stack.token("user"), "/v2/models/heart/infer", v2(PATIENT), rate=20, seconds=400
    ) as load:
        wait_for("40 answers before", lambda: len(load.answered) > 40)
        disturb()
        before = len(load.statuses)
        wait_for(
            "calm afterwards",
            lambda: load.statuses[before:][-SETTLED:].count(200) == SETTLED,
            START_SECONDS,
        )
    wait_for(
        "the log to equal the traffic",
        lambda: stack.logged(load.answered) == {1: len(load.answered)},
        START_SECONDS,
    )
    return load


def another_version(stack: KindStack) -> str:
    """Return a second good version: the kept one, or a new one."""
    live = stack.live("heart")
    kept = [t.version for t in stack.model("heart").status.traffic if t.version != live]
    return kept[0] if kept else str(stack.job("train-heart")["version"])


def switch(stack: KindStack, version: str) -> None:
    stack.move_alias("heart", version)
    wait_for(f"version {version} to be live", lambda: stack.live("heart") == version, START_SECONDS)


def test_promotion_and_rollback_fail_no_request(stack: KindStack) -> None:
    first, second = str(stack.live("heart")), another_version(stack)
    for version in (second, first):
        load = disturbed(stack, lambda version=version: switch(stack, version))  # type: ignore[misc]
        assert (set(load.statuses), load.errors) == ({200}, [])
        assert load.versions[-1] == version


def test_a_helm_upgrade_that_replaces_the_gateways_fails_no_request(stack: KindStack) -> None:
    load = disturbed(stack, upgrade)
    assert (set(load.statuses), load.errors) == ({200}, [])


def upgrade() -> None:
    stamp = str(int(time.time()))
    helm(
        "upgrade",
        "slipway",
        "charts/slipway",
        "--reuse-values",
        "--wait",
        "--timeout",
        "5m",
        "--set-string",
        f"gateway.env.RESTARTED={stamp}",
    )
    kubectl("rollout", "status", "deployment/slipway-gateway", "--timeout=300s")


def test_the_loss_of_the_controller_fails_no_request(stack: KindStack) -> None:
    load = disturbed(stack, lambda: lose("app.kubernetes.io/component=controller"))
    assert (set(load.statuses), load.errors) == ({200}, [])


def test_the_loss_of_postgresql_fails_no_prediction_and_loses_no_event(stack: KindStack) -> None:
    load = disturbed(stack, lambda: lose("app.kubernetes.io/component=postgresql"))
    assert (set(load.statuses), load.errors) == ({200}, [])


def test_the_loss_of_a_gateway_pod_fails_no_request(stack: KindStack) -> None:
    load = disturbed(stack, lambda: lose("app.kubernetes.io/component=gateway", one=True))
    assert (set(load.statuses), load.errors) == ({200}, [])


def test_the_loss_of_the_only_predictor_gives_503_with_retry_after_until_it_is_back(
    stack: KindStack,
) -> None:
    service = f"serving.kserve.io/inferenceservice=heart-{stack.live('heart')}"
    load = disturbed(stack, lambda: lose(service))
    assert set(load.statuses) <= {200, 503}
    assert load.errors == []
    assert load.without_retry_after == 0


def lose(selector: str, *, one: bool = False) -> None:
    """Delete pods like a node drain, and wait until as many others are ready."""
    before = [pod["metadata"]["name"] for pod in objects("pods", selector) if ready(pod)]
    assert before, selector
    kubectl("delete", "pod", *(before[:1] if one else before), "--wait=false")
    gone = set(before[:1] if one else before)
    wait_for("replacements", lambda: replaced(selector, gone, len(before)), START_SECONDS)


def replaced(selector: str, gone: set[str], count: int) -> bool:
    """Return True when other pods are ready; a StatefulSet's new pod has the old name."""
    pods = [
        pod
        for pod in objects("pods", selector)
        if ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    new = [
        pod
        for pod in pods
        if pod["metadata"]["name"] not in gone or pod["metadata"]["name"].endswith("-0")
    ]
    return len(new) >= min(count, len(gone)) and len(pods) >= count
