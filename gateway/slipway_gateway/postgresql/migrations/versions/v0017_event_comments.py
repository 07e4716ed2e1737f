"""Describe the columns of the event log as the contract's events describe their fields."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

COMMENTS = {
    "prediction_events": {
        "time": "when the request arrived, UTC",
        "version": "registry version that answered",
        "digest": "sha256:… of the artifact that answered",
        "run_id": "MLflow run that made the version",
        "role": "traffic role of the version: live, canary, previous",
        "subject": "the caller, user:ada or client:nightly",
        "decision": "the access rule that let the caller in",
        "protocol": "v2 or v1",
        "request": "body as received; null when over the limit of the log",
        "response": "body as sent; null when over the limit of the log",
        "policy": "policy of the grant that let the caller use the model",
        "lease": "lease of the policy's quota that it was taken from",
    },
    "feedback": {
        "label": "the true outcome, in the terms of the model's label output",
        "rows": "predicted rows that the label covers; null when it cannot be compared",
        "correct": "how many of them the model predicted correctly",
    },
}


def upgrade() -> None:
    for table, columns in COMMENTS.items():
        for column, comment in columns.items():
            op.alter_column(table, column, comment=comment)
