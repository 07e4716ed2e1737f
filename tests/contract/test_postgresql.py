"""Parameters of connections to PostgreSQL, and the environment of a subprocess that connects."""

import pytest
from slipway_contract.postgresql import client_seconds, connection_parameters, libpq_environment

PLAIN = "postgresql:///slipway"


def test_every_connection_detects_a_lost_server() -> None:
    given = connection_parameters(PLAIN)
    seconds = int(given["keepalives_idle"]) + int(given["keepalives_interval"]) * int(
        given["keepalives_count"]
    )
    assert given["keepalives"] == 1
    assert seconds <= 30
    assert int(given["tcp_user_timeout"]) <= 30_000
    assert int(given["connect_timeout"]) <= 10


def test_the_server_ends_a_statement_and_a_transaction_that_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGOPTIONS", raising=False)
    options = str(
        connection_parameters(PLAIN, statement_seconds=2.5, transaction_idle_seconds=60)["options"]
    )
    assert "-c statement_timeout=2500" in options
    assert "-c idle_in_transaction_session_timeout=60000" in options
    assert "statement_timeout" not in str(connection_parameters(PLAIN)["options"])


def test_parameters_of_the_url_take_precedence() -> None:
    given = connection_parameters(
        f"{PLAIN}?connect_timeout=30&keepalives_idle=60&options=-c%20statement_timeout%3D1",
        statement_seconds=20,
    )
    assert {"connect_timeout", "keepalives_idle"}.isdisjoint(given)
    assert str(given["options"]).endswith("-c statement_timeout=1"), "the last one wins"


def test_options_of_the_environment_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=mine")
    assert str(connection_parameters(PLAIN)["options"]).endswith("-c search_path=mine")


@pytest.mark.parametrize("seconds", [0.1, 1.0, 20.0, 1800.0])
def test_a_client_waits_longer_than_the_server_works(seconds: float) -> None:
    assert seconds < client_seconds(seconds) <= seconds + 5


def test_a_subprocess_gets_the_variables_of_libpq_and_no_other_secret() -> None:
    here = {
        "PGUSER": "slipway",
        "PGPASSWORD": "x",
        "PGSSLROOTCERT": "/ca.pem",
        "HOME": "/tmp",
        "SSL_CERT_FILE": "/bundle.pem",
    }
    assert libpq_environment(here | {"SLIPWAY_PREDICTOR_TOKEN": "secret", "PATH": "/bin"}) == here
