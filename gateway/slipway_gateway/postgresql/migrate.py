"""Brings the database to the tables of this release; safe to run again, and by several at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from slipway_contract.postgresql import connection_parameters
from sqlalchemy import create_engine, text

from slipway_gateway.postgresql import queue_schema
from slipway_gateway.postgresql.database import sqlalchemy_url

LOCK = 0x5119_0001
"""Key of the advisory lock: replicas that start together migrate one after the other."""


def migrate(url: str, revision: str = "head") -> None:
    """Upgrade to the revision, the newest one by default. Raises sqlalchemy.exc.OperationalError
    when there is no database.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # Without a statement_timeout: a migration may rewrite a table, or wait for another replica's.
    engine = create_engine(sqlalchemy_url(url), connect_args=connection_parameters(url))
    try:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            queue_schema.upgrade(connection)
    finally:
        engine.dispose()
