"""Alias moves in the gateway's audit table."""

import psycopg
import pytest
from slipway.errors import Refused
from slipway_gateway.postgresql.migrate import migrate
from slipway_jobs.promotion.audit import recorded
from slipway_jobs.settings import Settings
from sqlalchemy import make_url

THING = "registry/heart/aliases/champion"


def settings(url: str | None, actor: str) -> Settings:
    return Settings(
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        database_url=url,
        actor=actor,
        request_id="0199-abc",
    )


def entries(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        query = (
            "SELECT subject, request_id, action, thing, detail FROM audit WHERE thing = %s ORDER "
            "BY number"
        )
        return connection.execute(query, [THING]).fetchall()


def move(url: str | None, actor: str) -> None:
    with recorded(settings(url, actor), "alias.move", THING, {"to": "2"}):
        pass


@pytest.fixture
def gateway_database(postgres: str) -> str:
    """URL of a database with the gateway's own tables."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE gateway_database")
    url = make_url(postgres).set(database="gateway_database").render_as_string(hide_password=False)
    migrate(url)
    return url


def test_a_move_is_recorded_with_its_request_unless_it_fails(gateway_database: str) -> None:
    move(gateway_database, "user:marie")
    move(gateway_database, "nightly")
    with (
        pytest.raises(OSError, match="MLflow"),
        recorded(settings(gateway_database, "x"), "alias.move", THING, {}),
    ):
        raise OSError("MLflow is unreachable")
    subjects = ("user:marie", "job:nightly")
    assert entries(gateway_database) == [
        (subject, "0199-abc", "alias.move", THING, {"to": "2"}) for subject in subjects
    ]


@pytest.mark.slow
def test_an_unreachable_database_prevents_the_move() -> None:
    move(None, "ada")
    with pytest.raises(
        Refused,
        match=(
            r"the audit entry of registry/heart/aliases/champion cannot be written, so nothing was "
            r"moved"
        ),
    ):
        move("postgresql://127.0.0.1:9/x", "ada")
