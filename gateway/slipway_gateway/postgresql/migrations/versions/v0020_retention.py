"""Bodies and rows of predictions expire by the retention of their Models.

The index has the rows with a body, so that a pass does not read those that it has trimmed. Building
it blocks inserts; events wait in the spools meanwhile.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "prediction_events",
        sa.Column(
            "bodies_removed",
            sa.DateTime(timezone=True),
            comment="when retention removed request and response; null: it has not",
        ),
    )
    op.create_index(
        "prediction_events_bodies",
        "prediction_events",
        ["model", "time"],
        postgresql_where=sa.text("request IS NOT NULL OR response IS NOT NULL"),
    )
    op.create_table(
        "retention",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("body_days", sa.Integer, comment="null: those of the installation"),
        sa.Column("fact_days", sa.Integer, comment="null: those of the installation"),
        comment="spec.retention of each Model, also after its deletion",
    )
