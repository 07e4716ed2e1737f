"""The ledger of predictions, leases of quotas, levels of rates; and by which policy a prediction
was made.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prediction_events", sa.Column("policy", sa.Text))
    op.add_column("prediction_events", sa.Column("lease", sa.Text))
    op.add_column("audit", sa.Column("address", sa.Text))
    op.create_table(
        "usage",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "quota_leases",
        sa.Column("lease_id", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column(
            "held",
            sa.BigInteger,
            nullable=False,
            comment="granted, and neither in the ledger nor given back",
        ),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("quota_leases_subject_policy", "quota_leases", ["subject", "policy"])
    # After a crash of the database all rates begin anew, which is cheaper than to log every one of
    # them.
    op.create_table(
        "rate_levels",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Text, primary_key=True),
        sa.Column("per_minute", sa.Integer, nullable=False),
        sa.Column("level", sa.Double, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        prefixes=["UNLOGGED"],
    )
