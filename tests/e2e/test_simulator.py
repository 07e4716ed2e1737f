"""A caller who predicts and learns the truth, as a service account."""

from typing import Any

from tests.e2e.conftest import KindStack, granted, kubectl, objects
from tests.stack import wait_for

ROWS = 5


def labelled(stack: KindStack) -> dict[str, Any]:
    """Of the version that answers: how many rows are labelled, how many of them were right."""
    with stack.client("scientist") as scientist:
        said = scientist.get("/v1/models/heart/accuracy").raise_for_status().json()["versions"]
    live = next(
        (each for each in said if each["version"] == stack.live("heart")), {"rows": 0, "correct": 0}
    )
    return {"rows": live["rows"], "correct": live["correct"]}


def test_the_simulator_gives_a_version_its_live_accuracy(stack: KindStack) -> None:
    before = labelled(stack)
    with stack.client("admin") as admin, granted(admin, "client:simulator", "heart", "default"):
        kubectl("scale", "deployment/slipway-simulator", "--replicas=1")
        try:
            wait_for(
                f"{ROWS} labelled rows",
                lambda: labelled(stack)["rows"] >= before["rows"] + ROWS,
                120,
            )
        finally:
            kubectl("scale", "deployment/slipway-simulator", "--replicas=0")
        wait_for("its end", lambda: not objects("pods", "app.kubernetes.io/component=simulator"))
    after = labelled(stack)
    # Most of what it was told is right: it learns the truth of the rows that it asked about, not of
    # others.
    assert after["correct"] - before["correct"] > (after["rows"] - before["rows"]) / 2
