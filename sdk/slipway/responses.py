"""Responses of the gateway, as the SDK returns them: fields that it does not know are ignored.

Names are those of the schemas in the OpenAPI document; a field is in snake case here.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec


class Response(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A response body."""


class AcceptedTask(Response, frozen=True, kw_only=True):
    """The response to ``Prefer: respond-async``."""

    task_id: str
    state: str
    location: str


class Accuracy(Response, frozen=True, kw_only=True):
    """Accuracy by version, from the latest label of each prediction."""

    model: str
    since: datetime
    until: datetime
    versions: list[VersionAccuracy]


class AuditEntry(Response, frozen=True, kw_only=True):
    """A change with its author."""

    number: int
    time: datetime
    subject: str
    address: str | None
    request_id: str
    action: str
    thing: str
    detail: Any


class AuditList(Response, frozen=True, kw_only=True):
    """Audit entries, newest first."""

    entries: list[AuditEntry]


class Batch(Response, frozen=True, kw_only=True):
    """A batch prediction and its progress."""

    batch_id: str
    model: str
    version: str
    state: str
    rows: int | None
    rows_done: int
    rows_failed: int
    created: datetime
    finished: datetime | None
    expires: datetime
    reason: str | None = None


class BatchList(Response, frozen=True, kw_only=True):
    """Batches, newest first."""

    batches: list[Batch]


class Column(Response, frozen=True, kw_only=True):
    """One named input or output."""

    name: str
    datatype: str
    shape: list[int] | None = None
    description: str | None = None
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    codes: dict[str, str] | None = None
    classes: list[str] | None = None
    categories: list[str] | None = None
    missing: bool | None = None
    max_length: int | None = msgspec.field(default=None, name="max_length")
    image: dict[str, Any] | None = None
    lookup: dict[str, Any] | None = None


class Dataset(Response, frozen=True, kw_only=True):
    """The training dataset of a version."""

    name: str | None = None
    digest: str | None = None
    licence: str | None = None
    source: str | None = None


class FeaturesAnswer(Response, frozen=True, kw_only=True):
    """The feature set of the looked-up inputs and its freshness."""

    name: str
    newest: date
    age_seconds: float
    computed: datetime
    synthetic: bool


class FeatureSetAnswer(Response, frozen=True, kw_only=True):
    """A declared feature set and its freshness."""

    name: str
    description: str
    owner: str
    keys: list[dict[str, Any]]
    columns: list[dict[str, Any]]
    models: list[str]
    newest: date
    age_seconds: float
    max_age_seconds: int | None
    fresh: bool
    computed: datetime
    synthetic: bool


class FeatureSetList(Response, frozen=True, kw_only=True):
    """Feature sets by name."""

    features: list[FeatureSetAnswer]
    next_cursor: str | None


class KeyValues(Response, frozen=True, kw_only=True):
    """Values of a key in the order of code points, without wildcards."""

    key: str
    values: list[str | int]
    next_cursor: str | None


class FeedbackAnswer(Response, frozen=True, kw_only=True):
    """Stored feedback."""

    feedback_id: str
    request_id: str
    time: datetime
    subject: str
    label: Any
    comment: str | None


class FeedbackList(Response, frozen=True, kw_only=True):
    """Feedback on a prediction, newest first."""

    feedback: list[FeedbackAnswer]


class GrantContent(Response, frozen=True, kw_only=True):
    """A stored grant."""

    grantee: str
    models: str
    policy: str
    expires: datetime | None = None
    grant_id: str
    created: datetime


class GrantList(Response, frozen=True, kw_only=True):
    """All grants."""

    grants: list[GrantContent]


class GroupContent(Response, frozen=True, kw_only=True):
    """A group and the names of its members."""

    name: str
    members: list[str]


class GroupList(Response, frozen=True, kw_only=True):
    """All groups, sorted by name."""

    groups: list[GroupContent]


class ImageLink(Response, frozen=True, kw_only=True):
    """An input image of a prediction."""

    number: int
    digest: str
    url: str


class Me(Response, frozen=True, kw_only=True):
    """The caller, from the token, with its grants and quotas."""

    subject: str
    account: str
    name: str | None
    groups: list[str]
    roles: list[str]
    expires: datetime
    grants: list[MyGrant] | None
    limits: list[MyLimit] | None


class ModelAnswer(Response, frozen=True, kw_only=True):
    """A model and its state."""

    name: str
    description: str | None
    owner: str | None
    ready: bool
    version: str | None
    digest: str | None
    verified: bool | None
    message: str
    signature: Signature | None
    registered_model: str
    alias: str
    alias_version: str | None
    conditions: list[ModelCondition]
    traffic: list[ModelTraffic]
    rollout: ModelRollout | None
    example: list[dict[str, Any]] | None = None
    lifecycle: list[LifecycleStep] | None = None


class ModelCondition(Response, frozen=True, kw_only=True):
    """A condition of the Model: Ready, Progressing or Degraded."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: datetime


class ModelTraffic(Response, frozen=True, kw_only=True):
    """A version that has predictors."""

    version: str
    role: str
    percent: int
    digest: str
    since: datetime


class ModelRollout(Response, frozen=True, kw_only=True):
    """The change to a new version, in progress."""

    candidate: str
    live: str | None
    percent: int
    since: datetime


class LifecycleStep(Response, frozen=True, kw_only=True):
    """A step of a model's lifecycle; the first three are those of the live version."""

    step: str
    state: str
    at: datetime | None = None
    by: str | None = None
    message: str = ""
    href: str | None = None


class ModelEvent(Response, frozen=True, kw_only=True):
    """A Kubernetes Event of a model."""

    time: datetime
    type: str
    reason: str
    message: str
    count: int
    object: str


class ModelEventList(Response, frozen=True, kw_only=True):
    """Events of a model, newest first."""

    events: list[ModelEvent]


class VersionDecision(Response, frozen=True, kw_only=True):
    """What the gate decided about a version."""

    promotion_id: str | None
    result: str
    reason: str
    at: datetime
    by: str
    alias: str
    dry_run: bool
    detail: dict[str, Any] | None


class ModelVersion(Response, frozen=True, kw_only=True):
    """A version of a model. Fields are null until a Job has read the version in MLflow."""

    version: str
    created_at: datetime | None
    created_by: str | None
    run_id: str | None
    git_revision: str | None
    image: str | None
    dataset: dict[str, Any] | None
    format: str | None
    size_bytes: int | None
    digest: str | None
    signed_by: str | None
    verified: bool | None
    aliases: list[str]
    role: str | None
    percent: int
    metrics: dict[str, dict[str, float | None]]
    parameters: dict[str, str]
    confusion_matrix: dict[str, Any] | None
    last_promotion: VersionDecision | None
    promotions: list[VersionDecision] | None = None


class ModelVersionList(Response, frozen=True, kw_only=True):
    """Versions of a model, newest first."""

    versions: list[ModelVersion]
    next_cursor: str | None


class ModelList(Response, frozen=True, kw_only=True):
    """The models that are granted to the caller, sorted by name."""

    models: list[ModelAnswer]


class ModelResource(Response, frozen=True, kw_only=True):
    """A Model as the cluster stores it; its `ETag` is `metadata.resourceVersion`."""

    api_version: str
    kind: str
    metadata: dict[str, Any]
    spec: dict[str, Any]
    status: dict[str, Any]


class MyGrant(Response, frozen=True, kw_only=True):
    """A grant of the caller or of one of its groups."""

    models: str
    policy: str
    expires: datetime | None


class MyLimit(Response, frozen=True, kw_only=True):
    """A quota of the caller under a policy."""

    policy: str
    period: str
    limit: int
    used: int
    remaining: int
    reset_at: datetime


class NewWebhook(Response, frozen=True, kw_only=True):
    """A new webhook with its secret, which no later response contains."""

    webhook_id: str
    url: str
    created: datetime | None = None
    delivered: datetime | None = None
    failed: datetime | None = None
    problem: str | None = None
    verified: datetime | None = None
    disabled: datetime | None = None
    secret: str


class PolicyContent(Response, frozen=True, kw_only=True):
    """A policy."""

    requests_per_day: int | None = None
    requests_per_month: int | None = None
    predictions_per_minute: int | None = None
    priority: str | None = None
    cache_seconds: int | None = None
    name: str


class PolicyList(Response, frozen=True, kw_only=True):
    """All policies, sorted by name."""

    policies: list[PolicyContent]


class PredictionAnswer(Response, frozen=True, kw_only=True):
    """The predictions, one object for each row in request order, and the version they are from."""

    predictions: list[dict[str, Any]]
    request_id: str
    model: str
    version: str
    digest: str
    features: FeaturesAnswer | None = None


class PredictionEntry(Response, frozen=True, kw_only=True):
    """A logged prediction; its receipt also has the inputs."""

    request_id: str
    time: datetime
    model: str
    version: str
    role: str
    status: int
    latency_ms: float
    caller: str
    prediction: Any
    label: Any
    correct: bool | None


class PredictionList(Response, frozen=True, kw_only=True):
    """Predictions, newest first."""

    predictions: list[PredictionEntry]
    next_cursor: str | None


class Promotion(Response, frozen=True, kw_only=True):
    """A promotion Job, available until the cluster deletes it."""

    model: str
    state: str
    submitted_by: str
    created: datetime
    finished: datetime | None
    reason: str | None
    promotion_id: str
    request: dict[str, Any]
    result: dict[str, Any] | None


class PromotionList(Response, frozen=True, kw_only=True):
    """Promotions, newest first."""

    promotions: list[Promotion]


class Receipt(Response, frozen=True, kw_only=True):
    """The complete record of one prediction."""

    request_id: str
    time: datetime
    model: str
    version: str
    digest: str
    verified: bool | None
    run_id: str | None
    dataset: Dataset | None
    git_revision: str | None
    image: str | None
    role: str
    caller: str
    decision: str
    protocol: str
    status: int
    latency_ms: float
    request: Any
    response: Any
    feedback: FeedbackAnswer | None
    images: list[ImageLink]


class RollbackAnswer(Response, frozen=True, kw_only=True):
    """The version that is to serve, and how far the controller has come."""

    model: str
    version: str
    instead_of: list[str]
    reason: str
    state: str
    message: str


class Signature(Response, frozen=True, kw_only=True):
    """The inputs and outputs of a model version, in order."""

    inputs: list[Column]
    outputs: list[Column]


class TaskAnswer(Response, frozen=True, kw_only=True):
    """An asynchronous prediction, stored for a limited time after its end."""

    task_id: str
    model: str
    state: str
    priority: str
    attempts: int
    caller: str
    request_id: str
    created: datetime
    finished: datetime | None
    expires: datetime | None
    status: int | None
    error: str | None
    result: Any = None


class TaskList(Response, frozen=True, kw_only=True):
    """Tasks, newest first."""

    tasks: list[TaskAnswer]


class Training(Response, frozen=True, kw_only=True):
    """A training Job, available until the cluster deletes it."""

    model: str
    state: str
    submitted_by: str
    created: datetime
    finished: datetime | None
    reason: str | None
    training_id: str
    parameters: dict[str, Any]
    result: dict[str, Any] | None = None


class TrainingList(Response, frozen=True, kw_only=True):
    """Trainings, newest first, and the JSON Schema of their parameters."""

    parameters: dict[str, Any]
    trainings: list[Training]


class UsageAnswer(Response, frozen=True, kw_only=True):
    """Usage entries, oldest day first."""

    subject: str
    total: int
    entries: list[UsageEntry]


class UsageEntry(Response, frozen=True, kw_only=True):
    """The number of predictions in one UTC day under one policy, without server errors."""

    day: date
    policy: str
    requests: int


class UserContent(Response, frozen=True, kw_only=True):
    """A user account, without passwords and password hashes."""

    name: str
    display_name: str | None
    emails: list[str]
    groups: list[str]
    active: bool
    created: datetime | None


class UserList(Response, frozen=True, kw_only=True):
    """All users, sorted by name."""

    users: list[UserContent]


class VersionAccuracy(Response, frozen=True, kw_only=True):
    """The accuracy of a version on its labelled predictions."""

    version: str
    digest: str
    predictions: int
    rows: int
    correct: int
    accuracy: float


class Webhook(Response, frozen=True, kw_only=True):
    """A webhook and the state of its deliveries."""

    webhook_id: str
    url: str
    created: datetime | None = None
    delivered: datetime | None = None
    failed: datetime | None = None
    problem: str | None = None
    verified: datetime | None = None
    disabled: datetime | None = None


class WebhookList(Response, frozen=True, kw_only=True):
    """Webhooks, oldest first."""

    webhooks: list[Webhook]
