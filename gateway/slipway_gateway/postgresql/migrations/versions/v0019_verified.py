"""Predictions have whether their runtime proves the version that answered."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "prediction_events",
        sa.Column(
            "verified",
            sa.Boolean,
            comment="false: the runtime does not prove that it answered from this digest; null: "
            "logged by an earlier release",
        ),
    )
