"""Predictions that are made later, whom to tell, and which migrations of the queue are in."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tasks",
        sa.Column("task_id", sa.Text, primary_key=True),
        sa.Column(
            "request_id", sa.Text, nullable=False, comment="key of the prediction in the event log"
        ),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("caller", JSONB, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("headers", JSONB, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("priority", sa.Text, nullable=False),
        sa.Column("key", sa.Text, comment="the caller's Idempotency-Key"),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "due",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when somebody should have heard of it",
        ),
        sa.Column("finished", sa.DateTime(timezone=True)),
        sa.Column("expires", sa.DateTime(timezone=True)),
        sa.Column("status", sa.Integer),
        sa.Column("answer_headers", JSONB),
        sa.Column("answer", sa.LargeBinary),
        sa.Column("error", sa.Text),
    )
    op.create_index("tasks_subject_created", "tasks", ["subject", "created"])
    op.create_index("tasks_state_due", "tasks", ["state", "due"])
    op.create_index(
        "tasks_key",
        "tasks",
        ["subject", "key"],
        unique=True,
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False, index=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered", sa.DateTime(timezone=True), comment="the last good delivery"),
        sa.Column("failed", sa.DateTime(timezone=True), comment="the last one that failed"),
        sa.Column("problem", sa.Text, comment="why it failed"),
    )
    op.create_table("queue_schema", sa.Column("name", sa.Text, primary_key=True))
