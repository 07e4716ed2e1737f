"""How much of a prediction turned out right; pictures that predictions were made from."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "feedback", sa.Column("rows", sa.Integer, comment="predicted rows that the label speaks of")
    )
    op.add_column(
        "feedback",
        sa.Column("correct", sa.Integer, comment="how many of them the model had told so"),
    )
    op.create_table(
        "pictures",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column(
            "time", sa.DateTime(timezone=True), nullable=False, comment="when it was last sent"
        ),
    )
    op.create_table(
        "prediction_pictures",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False, index=True),
        sa.Column("digest", sa.Text, sa.ForeignKey("pictures.digest"), nullable=False, index=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False, index=True),
    )
