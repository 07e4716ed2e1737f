"""Bodies and rows of predictions expire by the retention of their Models.

The new column needs a short exclusive lock. Behind a transaction that uses the table for more than
5 s this migration fails, instead of blocking all writers; the gateway that starts tries again.
Migration 0023 builds the index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "prediction_events",
        sa.Column(
            "bodies_removed",
            sa.DateTime(timezone=True),
            comment="when retention removed request and response; null: it has not",
        ),
    )
    op.create_table(
        "retention",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("body_days", sa.Integer, comment="null: those of the installation"),
        sa.Column("fact_days", sa.Integer, comment="null: those of the installation"),
        comment="spec.retention of each Model, also after its deletion",
    )
