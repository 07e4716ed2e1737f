"""Versions of the registry and what the gate decided about them, as Jobs write them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "registered_versions",
        sa.Column("registered_model", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column(
            "fingerprint",
            sa.Text,
            nullable=False,
            comment="SHA-256 of the tags from which the row was made",
        ),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text, comment="user of the MLflow run"),
        sa.Column("run_id", sa.Text),
        sa.Column("git_revision", sa.Text),
        sa.Column("image", sa.Text),
        sa.Column("dataset", JSONB, comment="name, digest, licence and source; null when unknown"),
        sa.Column("format", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, comment="bytes of the files in the manifest"),
        sa.Column("digest", sa.Text, comment="null: logged by hand, and not adopted yet"),
        sa.Column("signed_by", sa.Text, comment="SHA-256 of the public key"),
        sa.Column("aliases", JSONB, comment="array of names"),
        sa.Column("metrics", JSONB, comment="value and baseline by name"),
        sa.Column("parameters", JSONB, comment="text by name"),
        sa.Column(
            "confusion_matrix", JSONB, comment="rows, recall and counts; null without classes"
        ),
    )
    op.create_table(
        "version_promotions",
        sa.Column("registered_model", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("time", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("promotion_id", sa.Text, comment="name of the Job; null outside of the cluster"),
        sa.Column("alias", sa.Text, nullable=False),
        sa.Column(
            "result",
            sa.Text,
            nullable=False,
            comment="promoted, passed, refused, undecided or unchanged",
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("detail", JSONB, comment="numbers of the comparison"),
    )
