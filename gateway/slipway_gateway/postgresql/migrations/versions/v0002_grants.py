"""Policies, grants and the audit.

Before there were grants, everybody with a role could use every model. The three grants made here
keep that so; an administrator who wants it otherwise deletes them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "policies",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("requests_per_day", sa.BigInteger),
        sa.Column("requests_per_month", sa.BigInteger),
        sa.Column("predictions_per_minute", sa.Integer),
        sa.Column("priority", sa.Text, nullable=False, server_default="normal"),
    )
    op.create_table(
        "grants",
        sa.Column("grant_id", sa.Text, primary_key=True),
        sa.Column("grantee", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, sa.ForeignKey("policies.name"), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True)),
        sa.Column(
            "created", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.UniqueConstraint("grantee", "models", name="grants_grantee_models"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("thing", sa.Text, nullable=False),
        sa.Column("detail", JSONB),
    )
    op.execute(
        "CREATE FUNCTION slipway_grants_changed() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('slipway_grants', ''); RETURN NULL; END $$"
    )
    for table in ("policies", "grants"):
        op.execute(
            f"CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON "
            f"{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION slipway_grants_changed()"
        )
    op.execute("INSERT INTO policies (name) VALUES ('default')")
    op.execute(
        "INSERT INTO grants (grant_id, grantee, models, policy) "
        "SELECT 'every-model-for-' || role, 'group:' || role, '*', 'default' "
        "FROM unnest(ARRAY['user', 'scientist', 'admin']) role"
    )
