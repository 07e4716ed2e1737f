"""The ``Model`` resource: a model is declared, not coded."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from slipway_contract.labels import GROUP
from slipway_contract.registry import CHAMPION, SAFE_FORMATS, ArtifactFormat

API_VERSION = f"{GROUP}/v1alpha1"
Percent = Annotated[int, Field(ge=0, le=100)]


class Resource(BaseModel):
    """Part of a Kubernetes object: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    def manifest(self) -> dict[str, Any]:
        """As Kubernetes JSON, without what is not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Scale(Resource):
    """How many predictors a version gets, and by what they scale."""

    min_replicas: int = Field(default=1, ge=1, le=100)
    max_replicas: int = Field(default=1, ge=1, le=100)
    target_cpu_utilization: int = Field(
        default=70, ge=1, le=100, alias="targetCPUUtilization", description="per cent of the requested CPU"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}")
        return self


class Rollout(Resource):
    """How traffic moves to a new version."""

    steps: list[Annotated[int, Field(ge=1, le=99)]] = Field(
        default_factory=list, description="per cent of the traffic for the new version at each step before 100; none: at once"
    )
    step_seconds: int = Field(default=60, ge=0, le=86400)
    previous_kept: int = Field(default=1, ge=0, le=5, description="former versions that stay ready for an instant rollback")
    drain_seconds: int = Field(
        default=10, ge=0, le=3600, description="time between the end of a version's traffic and its removal"
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if sorted(set(self.steps)) != self.steps:
            raise ValueError("steps must rise")
        return self


class Training(Resource):
    """Where new versions come from."""

    template: str = Field(description="name of a suspended CronJob; `kubectl create job --from=cronjob/NAME` trains")


class Batching(Resource):
    """Requests that arrive together are predicted together: more of them a second, each a little later."""

    max_batch_size: int = Field(default=32, ge=2, le=1024, description="requests in a batch, at most")
    max_batch_time: float = Field(
        default=0.005, ge=0.0001, le=1, description="seconds that the first request of a batch waits for others"
    )


class ModelSpec(Resource):
    """What the owner of the model wants."""

    registered_model: str = Field(min_length=1, max_length=253, description="name in the MLflow registry")
    alias: str = Field(default=CHAMPION, min_length=1, description="registry alias that says which version is live")
    training: Training | None = None
    allow_formats: list[ArtifactFormat] = Field(
        default_factory=list,
        description="formats beyond onnx, skops and rules; joblib is pickle and can run any code: only for artifacts you trust",
    )
    scale: Scale = Field(default_factory=Scale)
    batching: Batching | None = Field(default=None, description="adaptive batching in the predictors; none: each request at once")
    rollout: Rollout = Field(default_factory=Rollout)

    @property
    def formats(self) -> frozenset[ArtifactFormat]:
        """Every artifact format that may be served for this model."""
        return SAFE_FORMATS | frozenset(self.allow_formats)


class ConditionType(StrEnum):
    """What a condition is about.

    Ready: the model answers. Progressing: a rollout is under way. Degraded: the wanted version does not serve.
    """

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"


class Condition(Resource):
    """One observation, in the form that Kubernetes uses for all its objects."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: datetime


class TrafficRole(StrEnum):
    """Why a version is in the traffic list."""

    LIVE = "live"
    CANARY = "canary"
    PREVIOUS = "previous"
    DRAINING = "draining"


class TrafficTarget(Resource):
    """One version, its share of the traffic, and where to call it. The gateway routes by this list alone."""

    version: str
    role: TrafficRole
    percent: Percent
    digest: str
    run_id: str | None = None
    service: str = Field(description="InferenceService, which is also the model's name at its predictor")
    url: str = Field(description="base URL of the predictor")
    since: datetime = Field(description="when this role and share began")


class ModelStatus(Resource):
    """What is."""

    observed_generation: int = 0
    conditions: list[Condition] = Field(default_factory=list)
    traffic: list[TrafficTarget] = Field(default_factory=list)

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type is kind), None)


class Metadata(BaseModel):
    """The part of ``metadata`` that Slipway reads; the rest is kept as it is."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    # A name becomes part of InferenceService names (`heart-12`) and of DNS labels.
    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")
    namespace: str | None = None
    uid: str | None = None
    generation: int = 0
    resource_version: str | None = None
    deletion_timestamp: datetime | None = None


class Model(Resource):
    """A served model."""

    api_version: Literal["serving.slipway.dev/v1alpha1"] = "serving.slipway.dev/v1alpha1"
    kind: Literal["Model"] = "Model"
    metadata: Metadata
    spec: ModelSpec
    status: ModelStatus = Field(default_factory=ModelStatus)

    @property
    def name(self) -> str:
        return self.metadata.name
