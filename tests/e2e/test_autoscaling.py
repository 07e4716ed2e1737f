"""A model under load: more predictors, even shares, and scale-in, without a failed request."""

import re
from typing import Any

import pytest

from tests.e2e.conftest import NAMESPACE, KindStack, kubectl
from tests.support.load import Load
from tests.support.processes import START_SECONDS
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

ROWS = 256
HEAVY = {
    "inputs": [
        {**tensor, "shape": [ROWS], "data": tensor["data"] * ROWS}
        for tensor in v2(PATIENT)["inputs"]
    ]
}


def served(pod: dict[str, Any]) -> float:
    """Return the inference requests that a predictor has answered, 0 for a new one."""
    name = pod["metadata"]["name"]
    text = kubectl(
        "get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:8082/proxy/metrics"
    ).stdout
    found = re.findall(
        r'^rest_server_requests_total\{[^}]*path="[^"]*infer"[^}]*\} ([\d.e+]+)$',
        text,
        flags=re.MULTILINE,
    )
    return sum(map(float, found))


def test_predictors_scale_with_the_load_and_no_request_fails(stack: KindStack) -> None:
    version = str(stack.live("heart"))
    wait_for("one predictor at the start", lambda: len(stack.pods(version)) == 1, START_SECONDS)
    with Load(
        stack.url,
        stack.token("user"),
        "/v2/models/heart/infer",
        HEAVY,
        rate=60,
        threads=8,
        seconds=400,
    ) as load:
        wait_for("a second predictor", lambda: len(stack.pods(version)) > 1, START_SECONDS)
        shares = wait_for(
            "a time without a change of predictors",
            lambda: shares_of(stack, version, load),
            START_SECONDS,
        )
    assert set(load.statuses) == {200}
    assert load.errors == []
    assert sum(shares) > 550, "600 without those in flight"
    mean = sum(shares) / len(shares)
    assert all(0.7 * mean <= share <= 1.3 * mean for share in shares), shares
    with Load(
        stack.url, stack.token("user"), "/v2/models/heart/infer", v2(PATIENT), rate=5, seconds=400
    ) as light:
        wait_for("one predictor at the end", lambda: len(stack.pods(version)) == 1, START_SECONDS)
    assert set(light.statuses) == {200}
    assert light.errors == []


def shares_of(stack: KindStack, version: str, load: Load) -> list[float] | None:
    """Return the number of the next 600 requests per predictor; None when predictors changed."""
    before = {pod["metadata"]["name"]: served(pod) for pod in stack.pods(version)}
    sent = len(load.statuses)
    wait_for("600 more answers", lambda: len(load.statuses) >= sent + 600, START_SECONDS)
    pods = stack.pods(version)
    if {pod["metadata"]["name"] for pod in pods} != before.keys() or len(pods) == 1:
        return None
    return [served(pod) - before[pod["metadata"]["name"]] for pod in pods]
