"""The tables of the gateway. The contract declares the rows of those that Jobs use, too."""

from collections.abc import Iterator
from datetime import date, datetime
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from slipway_contract.events import FeedbackEvent, PredictionEvent
from slipway_contract.tables import Batch, BatchFile, Big, RegisteredVersion, VersionPromotion
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

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


TYPES: dict[Any, TypeEngine[Any]] = {
    str: Text(),
    int: Integer(),
    Big: BigInteger(),
    float: Double(),
    bool: Boolean(),
    bytes: LargeBinary(),
    date: Date(),
    datetime: DateTime(timezone=True),
    Any: JSONB(),
}
"""SQL types by the annotation of a field."""


def columns(row: type[BaseModel], *key: str) -> Iterator[Column[Any]]:
    """Yield the columns of a table whose rows the contract declares; ``key`` is the primary key.

    A field's description is the column's comment, and a number's default is the server's default.
    """
    for name, annotation in get_type_hints(row, include_extras=True).items():
        if name not in row.model_fields:
            continue
        field, types = row.model_fields[name], get_args(annotation)
        optional = annotation is Any or NoneType in types
        default = field.default if isinstance(field.default, int) else None
        yield Column(
            name,
            TYPES[types[0] if NoneType in types else annotation],
            primary_key=name in key,
            nullable=optional,
            comment=field.description,
            server_default=None if default is None else str(default),
        )


prediction_events = Table(
    "prediction_events",
    metadata,
    *columns(PredictionEvent, "request_id"),
    Column(
        "bodies_removed",
        DateTime(timezone=True),
        comment="when retention removed request and response; null: it has not",
    ),
    Index("prediction_events_by_model", "model", "time", "request_id"),
    Index("prediction_events_by_subject", "subject", "time", "request_id"),
    Index("prediction_events_by_time", "time", "request_id"),
    Index(
        "prediction_events_bodies",
        "model",
        "time",
        postgresql_where=text("request IS NOT NULL OR response IS NOT NULL"),
    ),
)

retention = Table(
    "retention",
    metadata,
    Column("model", Text, primary_key=True),
    Column("body_days", Integer, comment="null: those of the installation"),
    Column("fact_days", Integer, comment="null: those of the installation"),
    comment="spec.retention of each Model, also after its deletion",
)

feedback = Table(
    "feedback",
    metadata,
    *columns(FeedbackEvent, "feedback_id"),
    Index("ix_feedback_request_id", "request_id"),
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

# Jobs write these three (slipway_contract.features, slipway.features). The collation makes the
# order that of code points, so that a prefix is a range.
feature_sets = Table(
    "feature_sets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("description", Text, nullable=False, server_default=""),
    Column("owner", Text, nullable=False),
    Column("keys", JSONB, nullable=False, comment="name and type of each key"),
    Column("columns", JSONB, nullable=False, comment="name and datatype of each value"),
    Column("newest", Date, nullable=False, comment="day of the newest fact in the values"),
    Column("max_age_seconds", Integer, comment="age from which the values are too old"),
    Column("time_zone", Text, nullable=False, server_default="UTC"),
    Column("synthetic", Boolean, nullable=False, server_default="false"),
    Column(
        "models",
        JSONB,
        nullable=False,
        server_default='["*"]',
        comment="Models that may look it up: names or globs",
    ),
    Column("computed", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

feature_rows = Table(
    "feature_rows",
    metadata,
    Column(
        "feature_set",
        Text,
        ForeignKey("feature_sets.name", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column(
        "key",
        ARRAY(Text(collation="C")),
        primary_key=True,
        comment="values of the keys in their order; * stands for any",
    ),
    Column("vector", JSONB, nullable=False, comment="values of the columns in their order"),
)

feature_keys = Table(
    "feature_keys",
    metadata,
    Column(
        "feature_set",
        Text,
        ForeignKey("feature_sets.name", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("key", Text, primary_key=True, comment="name of the key"),
    Column("value", Text(collation="C"), primary_key=True),
)

batches = Table(
    "batches",
    metadata,
    *columns(Batch, "batch_id"),
    Index("ix_batches_expires", "expires"),
    Index("batches_subject_created", "subject", "created"),
    Index("batches_key", "subject", "key", unique=True, postgresql_where=text("key IS NOT NULL")),
)

batch_files = Table(
    "batch_files",
    metadata,
    *columns(BatchFile, "batch_id", "kind", "number"),
    ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], ondelete="CASCADE"),
)

registered_versions = Table(
    "registered_versions",
    metadata,
    *columns(RegisteredVersion, "registered_model", "number"),
)

version_promotions = Table(
    "version_promotions",
    metadata,
    *columns(VersionPromotion, "registered_model", "number", "time"),
)
