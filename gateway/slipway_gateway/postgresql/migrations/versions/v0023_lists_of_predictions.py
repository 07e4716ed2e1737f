"""Indexes in the order of lists of predictions, built while gateways write events."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

INDEXES = {
    "prediction_events_by_model": "model, time, request_id",
    "prediction_events_by_subject": "subject, time, request_id",
    "prediction_events_by_time": "time, request_id",
}
REPLACED = ("prediction_events_model_time", "prediction_events_subject")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, columns in INDEXES.items():
            # An interrupted build leaves an invalid index.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON prediction_events ({columns})")
        for name in REPLACED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
