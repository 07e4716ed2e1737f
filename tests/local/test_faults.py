"""Crashes of single parts."""

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from tests.local.conftest import START_SECONDS, LocalStack
from tests.support.load import Load
from tests.support.stack import PATIENT, v2
from tests.support.waiting import wait_for

pytestmark = pytest.mark.stack


def logged(stack: LocalStack, numbers: list[str]) -> list[int]:
    """Return the number of rows in the event log for each request id."""
    with psycopg.connect(stack.database_url) as db:
        rows = db.execute(
            "SELECT request_id, count(*) FROM prediction_events GROUP BY request_id"
        ).fetchall()
    counts: dict[str, int] = dict(rows)
    return [counts.get(number, 0) for number in numbers]


def test_a_gateway_killed_during_1000_predictions_loses_and_duplicates_none(
    stack: LocalStack,
) -> None:
    path = "/v2/models/heart/infer"
    with Load(stack.url, stack.token("user"), path, v2(PATIENT), rate=400, threads=8) as load:
        wait_for("400 answers", lambda: len(load.answered) > 400)
        stack.programs("slipway_gateway serve")[0].kill()
        wait_for("1,000 answers, some after the restart", lambda: len(load.answered) > 1000)
    assert load.errors, "the kill should have caused errors"
    assert set(load.statuses) <= {200, 503}
    wait_for("the spool to be shipped", lambda: set(logged(stack, load.answered)) == {1})


def test_a_crash_is_reported_on_the_screen_and_the_part_is_restarted(stack: LocalStack) -> None:
    stack.programs("slipway_controller")[0].kill()
    wait_for("the screen to name it", lambda: "controller ended with 137" in stack.screen)
    wait_for("it to be back", lambda: stack.programs("slipway_controller"))


def test_a_killed_predictor_is_restarted(stack: LocalStack, user: httpx.Client) -> None:
    live = stack.model("heart").status.traffic[0]
    before = next(p for p in stack.programs("slipway-serve") if serves(p, live.url))
    before.kill()
    wait_for(
        "a new process to answer",
        lambda: user.post("/v2/models/heart/infer", json=v2(PATIENT)).is_success,
        START_SECONDS,
    )
    assert not before.is_running()
    assert live.service in stack.screen


def serves(process: psutil.Process, url: str) -> bool:
    return any(
        f":{c.laddr.port}" == url[url.rindex(":") :]
        for c in process.net_connections()
        if c.status == psutil.CONN_LISTEN
    )
