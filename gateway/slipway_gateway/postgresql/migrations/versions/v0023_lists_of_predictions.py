"""Indexes of the retention and of lists of predictions, built while gateways write events.

``prediction_events_bodies`` has the rows with a body, so that a pass of the retention does not read
those that it has trimmed. The indexes that the others replace stay until all are valid.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

INDEXES = {
    "prediction_events_bodies": "(model, time) WHERE request IS NOT NULL OR response IS NOT NULL",
    "prediction_events_by_model": "(model, time, request_id)",
    "prediction_events_by_subject": "(subject, time, request_id)",
    "prediction_events_by_time": "(time, request_id)",
}
REPLACED = ("prediction_events_model_time", "prediction_events_subject")
IS_VALID = sa.text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            if op.get_bind().execute(IS_VALID, {"name": name}).scalar():
                continue  # of an upgrade that was interrupted afterwards
            # An interrupted build leaves an invalid index.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON prediction_events {definition}")
        for name in REPLACED:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
