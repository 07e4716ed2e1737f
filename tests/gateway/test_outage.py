"""Outages of PostgreSQL under load: a frozen server, then a cut network.

Predictions continue, gateways stay ready, and no event is lost. ``SLIPWAY_TEST_OUTAGE_SECONDS`` is
the duration of each outage: seconds in the fast tests, minutes in ``make endure``.
"""

import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import httpx
import psycopg
import pytest
from slipway_gateway.postgresql.migrate import migrate

from tests.gateway.environment import Environment, Process, running
from tests.gateway.issuer import Issuer
from tests.gateway.predictor import Predictor
from tests.support.fault_injection import Network, frozen
from tests.support.postgresql import PostgresServer
from tests.support.waiting import wait_for

SECONDS = float(os.environ.get("SLIPWAY_TEST_OUTAGE_SECONDS", "8"))
A_SECOND = 20
"""Predictions per second."""
LONG = SECONDS + 120
PROBE_SECONDS = 3.0
"""Interval of readiness probes, as in the chart; ``PROBE_TIMEOUT`` is the timeout of each."""
PROBE_TIMEOUT = 6.0


class Load:
    """Predictions at a constant rate, and probes; all results are stored."""

    def __init__(self, process: Process) -> None:
        self._client = process.client
        self.answered: dict[str, int] = {}
        """Status of each prediction, by its request id."""
        self.slowest = 0.0
        self.probes: Counter[int | str] = Counter()
        self.problems: list[str] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._predict),
            threading.Thread(target=self._probe),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _predict(self) -> None:
        while not self._over.wait(1 / A_SECOND):
            started = time.monotonic()
            try:
                answer = self._client.infer("heart")
            except httpx.HTTPError as error:
                self.problems.append(repr(error))
            else:
                self.answered[answer.headers["x-request-id"]] = answer.status_code
            self.slowest = max(self.slowest, time.monotonic() - started)

    def _probe(self) -> None:
        with httpx.Client(
            base_url=self._client.url, timeout=PROBE_TIMEOUT, trust_env=False
        ) as client:
            while not self._over.wait(min(PROBE_SECONDS, SECONDS / 10)):
                try:
                    self.probes[client.get("/readyz").status_code] += 1
                except httpx.HTTPError as error:
                    self.probes[repr(error)] += 1

    def last(self, seconds: float) -> None:
        """Continue for ``seconds`` and check that predictions succeed during that time."""
        before = len(self.answered)
        assert not self._over.wait(seconds)
        assert len(self.answered) - before > seconds, "at least about one prediction a second"


def logged(postgres: PostgresServer) -> Counter[str]:
    with psycopg.connect(postgres.get_uri()) as connection:
        return Counter(
            str(row[0]) for row in connection.execute("SELECT request_id FROM prediction_events")
        )


@pytest.mark.slow
@pytest.mark.timeout(4 * LONG)
def test_predictions_continue_and_no_event_is_lost_while_postgresql_hangs_or_is_unreachable(
    tmp_path: Path, own_postgres: PostgresServer, issuer: Issuer, predictor: Predictor
) -> None:
    migrate(own_postgres.get_uri())
    with Network(own_postgres.get_uri()) as network:
        environment = Environment(tmp_path / "environment", network.url, issuer, predictor)
        environment.model("heart", ("3", 100))
        # Statements time out before the short version of this test ends.
        with running(environment, database_seconds=min(20.0, SECONDS / 8)) as process:
            with Load(process) as load:
                wait_for("the first events", lambda: logged(own_postgres))
                with frozen(own_postgres.get_pid() or 0):
                    load.last(SECONDS)
                wait_for(
                    "events after the freeze",
                    lambda: len(logged(own_postgres)) > A_SECOND * SECONDS / 4,
                    LONG,
                )
                network.cut()
                load.last(SECONDS)
                network.mend()
            wait_for("all events", lambda: len(logged(own_postgres)) >= len(load.answered), LONG)
            log = logged(own_postgres)
    print(  # noqa: T201  (`make endure` shows it)
        f"\nPostgreSQL frozen for {SECONDS:.0f} s, its network cut for {SECONDS:.0f} s: "
        f"{dict(Counter(load.answered.values()))}"
        f" predictions, the slowest {load.slowest:.2f} s; readiness {dict(load.probes)}; "
        f"{len(log)} events in the log"
    )
    assert load.problems == []
    assert set(load.answered.values()) == {200}
    assert set(load.probes) == {200}
    assert set(log) == set(load.answered)
    assert set(log.values()) == {1}
