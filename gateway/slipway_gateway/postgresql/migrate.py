"""Brings the database to the tables of this release; safe to run again, and by several at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from slipway_gateway.postgresql import queue_schema
from slipway_gateway.postgresql.database import sqlalchemy_url

LOCK = 0x5119_0001
"""Key of the advisory lock: replicas that start together migrate one after the other."""


def migrate(url: str) -> None:
    """Upgrade to the newest revision. Raises sqlalchemy.exc.OperationalError when there is no database."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": 10})
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            queue_schema.upgrade(connection)
    finally:
        engine.dispose()
