"""Events of the prediction log: a prediction, and the later feedback of its user."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Event(BaseModel):
    """Base of the events: JSON with camelCase names, like every response under ``/v1``."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", protected_namespaces=()
    )


class PredictionEvent(Event):
    """One answered prediction; ``request_id`` is its key in the log."""

    request_id: str = Field(min_length=1, max_length=128)
    time: datetime = Field(description="when the request arrived, UTC")
    model: str
    version: str = Field(description="registry version that answered")
    digest: str = Field(description="sha256:… of the artifact that answered")
    run_id: str | None = Field(default=None, description="MLflow run that made the version")
    role: str = Field(
        default="live", description="traffic role of the version: live, canary, previous"
    )
    subject: str = Field(description="the caller, user:ada or client:nightly")
    decision: str = Field(description="the access rule that let the caller in")
    protocol: str = Field(description="v2 or v1")
    status: int = Field(ge=100, le=599)
    latency_ms: float = Field(ge=0)
    request: str | None = Field(
        default=None, description="body as received; null when over the limit of the log"
    )
    response: str | None = Field(
        default=None, description="body as sent; null when over the limit of the log"
    )
    policy: str | None = Field(
        default=None, description="policy of the grant that let the caller use the model"
    )
    lease: str | None = Field(
        default=None, description="lease of the policy's quota that it was taken from"
    )
    verified: bool | None = Field(
        default=None,
        description=(
            "false: the runtime does not prove that it answered from this digest; null: logged by "
            "an earlier release"
        ),
    )


class FeedbackEvent(Event):
    """Feedback of the prediction's owner. A later one for the same prediction replaces it."""

    feedback_id: str
    request_id: str
    time: datetime
    subject: str
    label: Any = Field(
        default=None, description="the true outcome, in the terms of the model's label output"
    )
    comment: str | None = Field(default=None, max_length=2000)
    rows: int | None = Field(
        default=None,
        description="predicted rows that the label covers; null when it cannot be compared",
    )
    correct: int | None = Field(
        default=None, description="how many of them the model predicted correctly"
    )
