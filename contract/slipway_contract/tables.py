"""Rows of the PostgreSQL tables that the gateway and Jobs share.

The gateway derives its tables from these models and from the events, and its migrations create
them. A Job reads rows as these models.
"""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

BIGINT = "bigint"
"""Annotation of whole numbers that may exceed 32 bits."""
Big = Annotated[int, BIGINT]

CHUNK_BYTES = 2**20
"""Maximum bytes of a file in one row of ``batch_files``."""


class Batch(BaseModel):
    """A row of ``batches``: an uploaded file and the version that predicts it."""

    batch_id: str
    subject: str
    model: str
    version: str
    digest: str
    url: str = Field(description="base URL of the version's predictor")
    service: str = Field(description="the model's name at its predictor")
    format: str
    sha256: str
    key: str | None = Field(description="the caller's Idempotency-Key")
    job: str | None = Field(description="name of the Job, once there is one")
    problem: str | None = Field(description="why the file cannot be predicted")
    policy: str | None = Field(description="policy whose quota was charged; null without a quota")
    charged: Big | None = Field(description="rows that were charged to the quota")
    charged_day: date | None = Field(description="day of the ledger entry")
    stored: Big = Field(default=0, description="bytes of its files")
    rows: Big | None
    rows_done: Big = 0
    rows_failed: Big = 0
    created: datetime
    finished: datetime | None
    expires: datetime


class BatchFile(BaseModel):
    """A row of ``batch_files``: a chunk of a batch's file."""

    batch_id: str
    kind: str = Field(description="input, part or result")
    number: int
    content: bytes


class RegisteredVersion(BaseModel):
    """A row of ``registered_versions``: a version of the registry, as a Job has read it."""

    registered_model: str
    number: int
    fingerprint: str = Field(description="SHA-256 of the tags from which the row was made")
    created: datetime
    created_by: str | None = Field(description="user of the MLflow run")
    run_id: str | None
    git_revision: str | None
    image: str | None
    dataset: Any = Field(description="name, digest, licence and source; null when unknown")
    format: str | None
    size_bytes: Big | None = Field(description="bytes of the files in the manifest")
    digest: str | None = Field(description="null: logged by hand, and not adopted yet")
    signed_by: str | None = Field(description="SHA-256 of the public key")
    aliases: Any = Field(description="array of names")
    metrics: Any = Field(description="value and baseline by name")
    parameters: Any = Field(description="text by name")
    confusion_matrix: Any = Field(description="rows, recall and counts; null without classes")


class VersionPromotion(BaseModel):
    """A row of ``version_promotions``: what the gate decided about a version."""

    registered_model: str
    number: int
    time: datetime
    promotion_id: str | None = Field(description="name of the Job; null outside of the cluster")
    alias: str
    result: str = Field(description="promoted, passed, refused, undecided or unchanged")
    reason: str
    subject: str
    dry_run: bool
    detail: Any = Field(description="numbers of the comparison")
