"""How old an answer may be that a caller gets from the cache."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("policies", sa.Column("cache_seconds", sa.Integer))
