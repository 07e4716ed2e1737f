"""The tables of the gateway.

Columns of ``prediction_events`` and ``feedback`` are the fields of the contract's events.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

CHECKS = {
    "policies": {
        "policies_priority": "priority IN ('low', 'normal', 'high')",
        "policies_limits": "requests_per_day >= 0 AND requests_per_month >= 0",
        "policies_rate": "predictions_per_minute >= 1",
        "policies_cache": "cache_seconds >= 1",
    },
    "grants": {
        "grants_grantee": "grantee ~ '^[a-z]+:.' AND octet_length(grantee) <= 1000",
        "grants_models": "models <> '' AND octet_length(models) <= 1000",
    },
    "tasks": {
        "tasks_state": "state IN ('queued', 'running', 'succeeded', 'failed', 'dead', 'cancelled')",
        "tasks_priority": "priority IN ('low', 'normal', 'high')",
    },
}
"""Check constraints by table and name. They also protect the gateway from rows of other clients."""


def checks(table: str) -> list[CheckConstraint]:
    """Return the constraints in ``CHECKS`` of a table."""
    return [CheckConstraint(condition, name=name) for name, condition in CHECKS[table].items()]


prediction_events = Table(
    "prediction_events",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("run_id", Text),
    Column("role", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("protocol", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("latency_ms", Double, nullable=False),
    Column("request", Text),
    Column("response", Text),
    Column("policy", Text),
    Column("lease", Text),
    Index("prediction_events_model_time", "model", "time"),
    Index("prediction_events_subject", "subject"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False, index=True),
    Column("time", DateTime(timezone=True), nullable=False),
    Column("subject", Text, nullable=False),
    Column("label", JSONB),
    Column("comment", Text),
    Column("rows", Integer, comment="predicted rows that the label covers"),
    Column("correct", Integer, comment="how many of these rows the model predicted correctly"),
    Index("feedback_subject", "subject"),
)

images = Table(
    "images",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("time", DateTime(timezone=True), nullable=False, comment="when it was last sent"),
    Column(
        "subject",
        Text,
        nullable=False,
        index=True,
        comment="first sender, whose storage budget it uses",
    ),
)

prediction_images = Table(
    "prediction_images",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("subject", Text, nullable=False, index=True),
    Column("digest", Text, ForeignKey("images.digest"), nullable=False, index=True),
    Column("time", DateTime(timezone=True), nullable=False, index=True),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("run_id", Text),
    Column("metadata", JSONB, nullable=False, comment="V2 model metadata from the predictor"),
    Column("time", DateTime(timezone=True), nullable=False, comment="when it was stored"),
)

policies = Table(
    "policies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("requests_per_day", BigInteger),
    Column("requests_per_month", BigInteger),
    Column("predictions_per_minute", Integer),
    Column("priority", Text, nullable=False, server_default="normal"),
    Column("cache_seconds", Integer),
    *checks("policies"),
)

grants = Table(
    "grants",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("grantee", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("policy", Text, ForeignKey("policies.name"), nullable=False),
    Column("expires", DateTime(timezone=True)),
    Column("created", DateTime(timezone=True), nullable=False, server_default=func.now()),
    UniqueConstraint("grantee", "models", name="grants_grantee_models"),
    *checks("grants"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("time", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("subject", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("thing", Text, nullable=False),
    Column("detail", JSONB),
    Column("address", Text),
)

storage = Table(
    "storage",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="images, tasks, batches or feedback"),
    Column("bytes", BigInteger, nullable=False),
)

usage = Table(
    "usage",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("policy", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

quota_leases = Table(
    "quota_leases",
    metadata,
    Column("lease_id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column(
        "held",
        BigInteger,
        nullable=False,
        comment="granted, and neither in the ledger nor given back",
    ),
    Column("expires", DateTime(timezone=True), nullable=False),
    Index("quota_leases_subject_policy", "subject", "policy"),
)

rate_levels = Table(
    "rate_levels",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("bucket", Text, primary_key=True),
    Column("per_minute", Integer, nullable=False),
    Column("level", Double, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    prefixes=["UNLOGGED"],
)

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False, comment="key of the prediction in the event log"),
    Column("subject", Text, nullable=False),
    Column("caller", JSONB, nullable=False),
    Column("decision", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("priority", Text, nullable=False),
    Column("key", Text, comment="the caller's Idempotency-Key"),
    Column("fingerprint", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column(
        "due",
        DateTime(timezone=True),
        nullable=False,
        comment="deadline of the next attempt, or of the running one",
    ),
    Column("finished", DateTime(timezone=True)),
    Column("expires", DateTime(timezone=True)),
    Column("status", Integer),
    Column("answer_headers", JSONB),
    Column("answer", LargeBinary),
    Column("error", Text),
    Index("tasks_subject_created", "subject", "created"),
    Index("tasks_state_due", "state", "due"),
    Index("tasks_key", "subject", "key", unique=True, postgresql_where=text("key IS NOT NULL")),
    *checks("tasks"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("subject", Text, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("delivered", DateTime(timezone=True), comment="time of the last successful delivery"),
    Column("failed", DateTime(timezone=True), comment="time of the last failed delivery"),
    Column("problem", Text, comment="error of the last failed delivery"),
    Column("host", Text, nullable=False, comment="host of the URL in lower case"),
    Column("verified", DateTime(timezone=True), comment="when the URL answered the challenge"),
    Column(
        "failures",
        Integer,
        nullable=False,
        server_default="0",
        comment="failed attempts since the last success",
    ),
    Column("paused_until", DateTime(timezone=True), comment="no attempt before then"),
    Column(
        "disabled", DateTime(timezone=True), comment="when it was disabled after too many failures"
    ),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column(
        "webhook_id", Text, ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), primary_key=True
    ),
    Column("message_id", Text, primary_key=True, comment="the same for each attempt"),
    Column(
        "task_id",
        Text,
        ForeignKey("tasks.task_id", ondelete="CASCADE"),
        index=True,
        comment="null: the challenge",
    ),
    Column("state", Text, comment="how the task ended"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="attempts that failed"),
    Column("due", DateTime(timezone=True), nullable=False, index=True),
)

queue_schema = Table("queue_schema", metadata, Column("name", Text, primary_key=True))

deprovisioned = Table(
    "deprovisioned",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("pseudonym", Text, nullable=False),
    Column(
        "until",
        DateTime(timezone=True),
        nullable=False,
        comment="latest time of events that may be the user's",
    ),
)

known_accounts = Table(
    "known_accounts",
    metadata,
    Column("subject", Text, primary_key=True),
    Column(
        "missing",
        DateTime(timezone=True),
        comment="when the account was first missing; null while it exists",
    ),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("url", Text, nullable=False, comment="base URL of the version's predictor"),
    Column("service", Text, nullable=False, comment="the model's name at its predictor"),
    Column("format", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("key", Text, comment="the caller's Idempotency-Key"),
    Column("job", Text, comment="name of the Job, once there is one"),
    Column("problem", Text, comment="why the file cannot be predicted"),
    Column("policy", Text, comment="policy whose quota was charged; null without a quota"),
    Column("charged", BigInteger, comment="rows that were charged to the quota"),
    Column("charged_day", Date, comment="day of the ledger entry"),
    Column("stored", BigInteger, nullable=False, server_default="0", comment="bytes of its files"),
    Column("rows", BigInteger),
    Column("rows_done", BigInteger, nullable=False, server_default="0"),
    Column("rows_failed", BigInteger, nullable=False, server_default="0"),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("finished", DateTime(timezone=True)),
    Column("expires", DateTime(timezone=True), nullable=False, index=True),
    Index("batches_subject_created", "subject", "created"),
    Index("batches_key", "subject", "key", unique=True, postgresql_where=text("key IS NOT NULL")),
)

batch_files = Table(
    "batch_files",
    metadata,
    Column("batch_id", Text, ForeignKey("batches.batch_id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True, comment="input, part or result"),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
