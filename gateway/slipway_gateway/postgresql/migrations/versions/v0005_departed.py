"""Who has left: their name becomes a pseudonym in the event log, also in what arrives late from a
spool.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "departed",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column(
            "until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="end of the events that may still be theirs",
        ),
    )
    op.create_index("prediction_events_subject", "prediction_events", ["subject"])
    op.create_index("feedback_subject", "feedback", ["subject"])
