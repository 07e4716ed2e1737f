"""A service account that predicts and sends labels."""

from typing import Any

from tests.e2e.conftest import KindStack, granted, kubectl, objects
from tests.support.processes import START_SECONDS
from tests.support.waiting import wait_for

ROWS = 5


def labelled(stack: KindStack) -> dict[str, Any]:
    """Return the numbers of labelled and of correct rows of the live version."""
    with stack.client("scientist") as scientist:
        versions = scientist.get("/v1/models/heart/accuracy").raise_for_status().json()["versions"]
    live = next(
        (each for each in versions if each["version"] == stack.live("heart")),
        {"rows": 0, "correct": 0},
    )
    return {"rows": live["rows"], "correct": live["correct"]}


def test_the_simulator_provides_the_live_accuracy_of_a_version(stack: KindStack) -> None:
    before = labelled(stack)
    with stack.client("admin") as admin, granted(admin, "client:simulator", "heart", "default"):
        kubectl("scale", "deployment/slipway-simulator", "--replicas=1")
        try:
            wait_for(
                f"{ROWS} labelled rows",
                lambda: labelled(stack)["rows"] >= before["rows"] + ROWS,
                START_SECONDS,
            )
        finally:
            kubectl("scale", "deployment/slipway-simulator", "--replicas=0")
        wait_for("its end", lambda: not objects("pods", "app.kubernetes.io/component=simulator"))
    after = labelled(stack)
    # Most predictions are correct only if each label belongs to its row.
    assert after["correct"] - before["correct"] > (after["rows"] - before["rows"]) / 2
