"""Rows of batches are charged to the quota of a policy."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("policy", sa.Text, comment="whose quota paid; null: the policy has none"),
    )
    op.add_column(
        "batches",
        sa.Column("charged", sa.BigInteger, comment="rows that were charged to the quota"),
    )
    op.add_column(
        "batches", sa.Column("charged_day", sa.Date, comment="day of the ledger that they stand in")
    )
