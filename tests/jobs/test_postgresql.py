"""PostgreSQL connections of Jobs: a lost connection is an error after its deadline."""

import time

import psycopg
import pytest
from slipway_jobs.postgresql import connect

from tests.support.fault_injection import Network
from tests.support.waiting import SECONDS

QUICK = 2.0


def test_a_statement_on_a_silent_connection_fails(postgres: str) -> None:
    with Network(postgres) as network, connect(network.url, statement_seconds=QUICK) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        network.cut()
        started = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="did not respond within 4 s"):
            connection.execute("SELECT 1")
        assert time.monotonic() - started < SECONDS
        assert connection.closed


def test_the_server_ends_a_statement_that_takes_too_long(postgres: str) -> None:
    with connect(postgres, statement_seconds=QUICK, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_settings_of_the_session_are_added(postgres: str) -> None:
    with connect(postgres, options="-c search_path=optuna") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("optuna",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30min",)
