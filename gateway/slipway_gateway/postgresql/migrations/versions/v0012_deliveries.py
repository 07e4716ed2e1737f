"""Deliveries of webhooks wait in a table of their own, apart from the queue of predictions."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhooks",
        sa.Column(
            "host", sa.Text, nullable=False, server_default="", comment="of the URL, lower case"
        ),
    )
    op.execute(r"UPDATE webhooks SET host = lower(substring(url from '^\w+://\[?([^]/?#:]+)'))")
    op.alter_column("webhooks", "host", server_default=None)
    op.add_column(
        "webhooks",
        sa.Column(
            "verified", sa.DateTime(timezone=True), comment="when the URL answered the challenge"
        ),
    )
    op.execute("UPDATE webhooks SET verified = created")
    op.add_column(
        "webhooks",
        sa.Column(
            "failures",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="failed attempts since the last good one",
        ),
    )
    op.add_column(
        "webhooks",
        sa.Column("paused_until", sa.DateTime(timezone=True), comment="no attempt before then"),
    )
    op.add_column(
        "webhooks",
        sa.Column("disabled", sa.DateTime(timezone=True), comment="when it was given up"),
    )
    op.create_table(
        "deliveries",
        sa.Column(
            "webhook_id",
            sa.Text,
            sa.ForeignKey("webhooks.webhook_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("message_id", sa.Text, primary_key=True, comment="the same for each attempt"),
        sa.Column(
            "task_id",
            sa.Text,
            sa.ForeignKey("tasks.task_id", ondelete="CASCADE"),
            index=True,
            comment="null: the challenge",
        ),
        sa.Column("state", sa.Text, comment="how the task ended"),
        sa.Column(
            "attempts",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="attempts that failed",
        ),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False, index=True),
    )
