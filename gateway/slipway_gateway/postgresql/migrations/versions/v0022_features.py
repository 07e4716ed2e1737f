"""Declared feature sets, their rows, and the values of their keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feature_sets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("keys", JSONB, nullable=False, comment="name and type of each key"),
        sa.Column("columns", JSONB, nullable=False, comment="name and datatype of each value"),
        sa.Column(
            "newest", sa.Date, nullable=False, comment="day of the newest fact in the values"
        ),
        sa.Column("max_age_seconds", sa.Integer, comment="age from which the values are too old"),
        sa.Column("time_zone", sa.Text, nullable=False, server_default="UTC"),
        sa.Column("synthetic", sa.Boolean, nullable=False, server_default="false"),
        sa.Column(
            "models",
            JSONB,
            nullable=False,
            server_default='["*"]',
            comment="Models that may look it up: names or globs",
        ),
        sa.Column(
            "computed", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_table(
        "feature_rows",
        sa.Column(
            "feature_set",
            sa.Text,
            sa.ForeignKey("feature_sets.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "key",
            ARRAY(sa.Text(collation="C")),
            primary_key=True,
            comment="values of the keys in their order; * stands for any",
        ),
        sa.Column("vector", JSONB, nullable=False, comment="values of the columns in their order"),
    )
    op.create_table(
        "feature_keys",
        sa.Column(
            "feature_set",
            sa.Text,
            sa.ForeignKey("feature_sets.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("key", sa.Text, primary_key=True, comment="name of the key"),
        sa.Column("value", sa.Text(collation="C"), primary_key=True),
    )
