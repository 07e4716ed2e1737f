"""Database migration to this release's schema; idempotent and safe for concurrent replicas."""

import logging
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from slipway_contract.postgresql import connection_parameters
from sqlalchemy import Connection, create_engine, text

from slipway_gateway.postgresql import queue_schema
from slipway_gateway.postgresql.database import sqlalchemy_url

log = logging.getLogger(__name__)

VERSION_TABLE = "gateway_schema"
LOCK = 0x5119_0001
"""Key of the advisory lock that serializes the migrations of concurrent replicas."""
POLL_SECONDS = 0.2


def migrate(url: str, revision: str = "head") -> None:
    """Upgrade the schema to ``revision``, by default the newest one.

    A schema of a later release stays: each release serves on the schema of the next one, so that
    ``helm rollback`` works. Each migration commits, so that it can build an index without a lock of
    the writers, and an interrupted upgrade continues after the last one. Raises
    sqlalchemy.exc.OperationalError when the database is unavailable.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # No statement_timeout: a migration may rewrite a table or wait for another replica's lock.
    engine = create_engine(sqlalchemy_url(url), connect_args=connection_parameters(url))
    try:
        with engine.connect() as connection:
            _lock(connection)
            options = {"version_table": VERSION_TABLE}
            current = MigrationContext.configure(connection, opts=options).get_current_revision()
            connection.rollback()
            scripts = ScriptDirectory.from_config(config).walk_revisions()
            if current is not None and current not in {each.revision for each in scripts}:
                log.warning("the schema is of a later release (%s) and is not changed", current)
                return
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            queue_schema.upgrade(connection)
            connection.commit()
    finally:
        engine.dispose()


def _lock(connection: Connection) -> None:
    """Take the lock until the connection ends.

    A statement that waited for it would have a snapshot, and PostgreSQL completes the concurrent
    build of an index only after all older snapshots.
    """
    take = text("SELECT pg_try_advisory_lock(:key)")
    while not connection.execute(take, {"key": LOCK}).scalar_one():
        connection.rollback()
        time.sleep(POLL_SECONDS)
    connection.commit()
