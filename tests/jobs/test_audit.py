"""Moves of aliases in the gateway's audit."""

import psycopg
import pytest
from slipway_gateway.postgresql.migrate import migrate
from slipway_jobs.errors import Refused
from slipway_jobs.promotion.audit import noted
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
    with noted(settings(url, actor), "alias.move", THING, {"to": "2"}):
        pass


@pytest.fixture
def gateways(postgres: str) -> str:
    """URL of a database with the gateway's own tables."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE gateways")
    url = make_url(postgres).set(database="gateways").render_as_string(hide_password=False)
    migrate(url)
    return url


def test_a_move_is_noted_with_its_request_and_one_that_fails_is_not(gateways: str) -> None:
    move(gateways, "user:marie")
    move(gateways, "nightly")
    with (
        pytest.raises(OSError, match="MLflow"),
        noted(settings(gateways, "x"), "alias.move", THING, {}),
    ):
        raise OSError("MLflow is away")
    subjects = ("user:marie", "job:nightly")
    assert entries(gateways) == [
        (subject, "0199-abc", "alias.move", THING, {"to": "2"}) for subject in subjects
    ]


@pytest.mark.slow
def test_without_a_database_there_is_no_audit_and_with_one_that_is_away_nothing_moves() -> None:
    move(None, "ada")
    with pytest.raises(
        Refused,
        match=(
            r"the audit of registry/heart/aliases/champion cannot be written, so nothing was "
            r"moved"
        ),
    ):
        move("postgresql://127.0.0.1:9/x", "ada")
