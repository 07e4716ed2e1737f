"""Run by Alembic; the engine comes from ``slipway_gateway.postgresql.migrate``."""

from alembic import context

from slipway_gateway.postgresql.migrate import VERSION_TABLE
from slipway_gateway.postgresql.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
