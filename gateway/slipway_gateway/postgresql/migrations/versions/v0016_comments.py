"""Describe columns in the words of the glossary."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

COMMENTS = {
    "batches": {
        "charged_day": "day of the ledger entry",
        "policy": "policy whose quota was charged; null without a quota",
    },
    "deprovisioned": {"until": "latest time of events that may be the user's"},
    "feedback": {
        "correct": "how many of these rows the model predicted correctly",
        "rows": "predicted rows that the label covers",
    },
    "images": {"subject": "first sender, whose storage budget it uses"},
    "known_accounts": {"missing": "when the account was first missing; null while it exists"},
    "model_versions": {
        "metadata": "V2 model metadata from the predictor",
        "time": "when it was stored",
    },
    "storage": {"kind": "images, tasks, batches or feedback"},
    "tasks": {"due": "deadline of the next attempt, or of the running one"},
    "webhooks": {
        "delivered": "time of the last successful delivery",
        "disabled": "when it was disabled after too many failures",
        "failed": "time of the last failed delivery",
        "failures": "failed attempts since the last success",
        "host": "host of the URL in lower case",
        "problem": "error of the last failed delivery",
    },
}


def upgrade() -> None:
    for table, columns in COMMENTS.items():
        for column, comment in columns.items():
            op.alter_column(table, column, comment=comment)
