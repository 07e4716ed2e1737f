"""Which accounts the identity provider had, and since when one is missing."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_accounts",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column(
            "missing",
            sa.DateTime(timezone=True),
            comment="when it was first not there; null while it is",
        ),
    )
