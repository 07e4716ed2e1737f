"""Crashes of single parts."""

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from tests.load import Load
from tests.local.conftest import RunningRing
from tests.stack import PATIENT, v2, wait_for

pytestmark = pytest.mark.ring


def logged(ring: RunningRing, numbers: list[str]) -> list[int]:
    """How often the event log holds each of the request ids."""
    url = ring.programs("slipway_gateway serve")[0].environ()["SLIPWAY_DATABASE_URL"]
    with psycopg.connect(url) as db:
        rows = db.execute("SELECT request_id, count(*) FROM prediction_events GROUP BY request_id").fetchall()
    counts: dict[str, int] = dict(rows)
    return [counts.get(number, 0) for number in numbers]


def test_a_gateway_killed_during_1000_predictions_loses_and_doubles_none(ring: RunningRing) -> None:
    path = "/v2/models/heart/infer"
    with Load(ring.url, ring.token("user"), path, v2(PATIENT), rate=400, threads=8) as load:
        wait_for("400 answers", lambda: len(load.answered) > 400)
        ring.programs("slipway_gateway serve")[0].kill()
        wait_for("1,000 answers, some after the restart", lambda: len(load.answered) > 1000)
    assert load.errors, "the kill should have been felt"
    assert set(load.statuses) <= {200, 503}
    wait_for("the spool to be shipped", lambda: set(logged(ring, load.answered)) == {1}, 30)


def test_a_crash_is_named_on_the_screen_and_the_part_comes_back(ring: RunningRing) -> None:
    ring.programs("slipway_controller")[0].kill()
    wait_for("the screen to name it", lambda: "controller crashed (status 137)" in ring.screen)
    wait_for("it to be back", lambda: ring.programs("slipway_controller"))


def test_a_killed_predictor_comes_back(ring: RunningRing, user: httpx.Client) -> None:
    live = ring.model("heart").status.traffic[0]
    before = next(p for p in ring.programs("slipway-serve") if serves(p, live.url))
    before.kill()
    wait_for("a new process to answer", lambda: user.post("/v2/models/heart/infer", json=v2(PATIENT)).is_success, 90)
    assert not before.is_running()
    assert live.service in ring.screen


def serves(process: psutil.Process, url: str) -> bool:
    return any(f":{c.laddr.port}" == url[url.rindex(":") :] for c in process.net_connections() if c.status == psutil.CONN_LISTEN)
