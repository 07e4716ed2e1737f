"""The ``Model`` resource: the declaration of a served model.

Processes of several releases read the same Models during an upgrade. Therefore a reader ignores
unknown fields and formats, and passes unknown roles and conditions on; ``admitted``, which is
called before a Model is stored, is strict.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticOmit

from slipway_contract.labels import GROUP
from slipway_contract.pod import Predictor
from slipway_contract.registry import CHAMPION, NAME, SAFE_FORMATS, ArtifactFormat
from slipway_contract.resource import Resource
from slipway_contract.retention import Retention
from slipway_contract.training import TrainingJob

API_VERSION = f"{GROUP}/v1alpha1"
MODEL_NAME = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
"""Pattern of the name of a Model, which becomes part of InferenceService names (`heart-12`) and of
DNS labels.
"""
Percent = Annotated[int, Field(ge=0, le=100)]


_ADMISSION = {"admission": True}
"""Validation context of ``admitted``."""


class OpenEnum(StrEnum):
    """Enumeration that accepts unknown values, which a later release may write, as members.

    Such a member is equal to its text.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        other = str.__new__(cls, value)
        other._name_, other._value_ = "OTHER", value
        return other


def _known(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Omit an item that this release does not support, except at admission."""
    try:
        return validate(value)
    except ValidationError:
        if info.context == _ADMISSION:
            raise
        raise PydanticOmit from None


class Scale(Resource):
    """Replicas of a version's predictor, and the metric by which they scale."""

    min_replicas: int = Field(
        default=1,
        ge=1,
        le=100,
        description="minimum of predictors of a version with traffic or kept for a rollback",
    )
    max_replicas: int = Field(
        default=1,
        ge=1,
        le=100,
        description="maximum of predictors of a version; not below minReplicas",
    )
    target_cpu_utilization: int = Field(
        default=70,
        ge=1,
        le=100,
        alias="targetCPUUtilization",
        description="per cent of the requested CPU",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"minReplicas {self.min_replicas} is above maxReplicas {self.max_replicas}"
            )
        return self


class Rollout(Resource):
    """Steps and times of the change to a new version."""

    steps: list[Annotated[int, Field(ge=1, le=99)]] = Field(
        default_factory=list,
        description=(
            "per cent of the traffic for the new version at each step; none: 100 immediately"
        ),
    )
    step_seconds: int = Field(
        default=60, ge=0, le=86400, description="seconds from one step to the next"
    )
    previous_kept: int = Field(
        default=1, ge=0, le=5, description="former versions that stay ready for an instant rollback"
    )
    drain_seconds: int = Field(
        default=10,
        ge=0,
        le=3600,
        description="seconds between the end of a version's traffic and its removal",
    )

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if sorted(set(self.steps)) != self.steps:
            raise ValueError("steps must rise")
        return self


class RoutedTraining(Resource):
    """The source of new versions, as the gateway reads it."""

    template: str | None = Field(
        default=None,
        min_length=1,
        description="name of a CronJob; `kubectl create job --from=cronjob/NAME` trains",
    )
    job: Any = None

    def cron_job(self, model: str) -> str | None:
        """Return the name of the CronJob whose Jobs train the model; None without a source."""
        return training_name(model) if self.job is not None else self.template


class Training(RoutedTraining):
    """The source of new versions: a CronJob that exists, or a Job that the controller creates."""

    job: TrainingJob | None = Field(
        default=None, description="Job from which the controller makes the CronJob `train-MODEL`"
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.template is None) == (self.job is None):
            raise ValueError("needs either template or job; set one of them")
        return self


def training_name(model: str) -> str:
    """Return the name of the CronJob that the controller makes for a model."""
    return f"train-{model}"


class Gate(Resource):
    """The owner's rule of promotions: what a version must gain over the live one."""

    metric: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="metric that decides; none: the first one of the evaluation",
    )
    min_gain: float = Field(
        default=0,
        ge=-1e9,
        le=1e9,
        allow_inf_nan=False,
        description=(
            "gain that the metric must exceed with 95 % confidence; a negative one accepts a "
            "version that is at most that much worse"
        ),
    )
    required: bool = Field(
        default=False,
        description=(
            "true: a version does not serve when its alias was moved without a promotion, for "
            "example in MLflow"
        ),
    )


VersionNumber = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
Reason = Annotated[
    str,
    Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$"),
]
"""Why a person does something, on one line."""
MAX_REPLACED = 20


class Rollback(Resource):
    """A version that serves while the alias points to another one."""

    version: VersionNumber = Field(description="version that serves, usually a former one")
    instead_of: list[VersionNumber] = Field(
        min_length=1,
        max_length=MAX_REPLACED,
        description=(
            "versions of the alias that it replaces; the rollback ends when the alias points to "
            "another one"
        ),
    )
    reason: Reason = Field(description="why, on one line; it is recorded with the version")
    requested_at: datetime | None = Field(
        default=None, description="time of the request; it makes a repeated rollback a new one"
    )

    @model_validator(mode="after")
    def _replaces_others(self) -> Self:
        if self.version in self.instead_of:
            raise ValueError(f"version {self.version} is in insteadOf; name another version")
        return self

    def is_same(self, other: "Rollback | None") -> bool:
        """Return whether both are the same request; a status has more fields."""
        return other is not None and all(
            getattr(self, name) == getattr(other, name) for name in Rollback.model_fields
        )

    def in_effect(self, status: "ModelStatus", alias_version: str | None) -> bool:
        """Return whether the version serves in place of that of the alias.

        A rollback is final once the alias has moved: a version that is promoted again serves.
        """
        known = status.rollback
        is_final = known is not None and self.is_same(known) and known.is_final
        return alias_version in self.instead_of and not is_final


class Batching(Resource):
    """Predicts concurrent requests together: more requests per second, each a little later."""

    max_batch_size: int = Field(
        default=32, ge=2, le=1024, description="requests in a batch, at most"
    )
    max_batch_time: float = Field(
        default=0.005,
        ge=0.0001,
        le=1,
        description="seconds that the first request of a batch waits for others",
    )


class RoutedSpec(Resource):
    """Fields of a spec that the gateway reads."""

    description: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="purpose of the model, for the people that call it",
    )
    owner: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^\S(.*\S)?$",
        description="person or team that is responsible for the model, on one line",
    )
    registered_model: str = Field(
        pattern=NAME.pattern,
        description="name in the MLflow registry: letters, digits, hyphens and underscores",
    )
    alias: str = Field(
        default=CHAMPION,
        min_length=1,
        description="registry alias of the version that is to be live",
    )
    training: RoutedTraining | None = None
    gate: Gate = Field(default_factory=Gate, description="what a version must gain to be promoted")


class ModelSpec(RoutedSpec):
    """Desired state of the model."""

    training: Training | None = Field(
        default=None, description="source of new versions; none: trainings are rejected"
    )
    allow_formats: list[Annotated[ArtifactFormat, WrapValidator(_known)]] = Field(
        default_factory=list,
        description=(
            "formats beyond onnx, skops and rules; joblib is pickle and can run any code: only "
            "for artifacts you trust"
        ),
    )
    predictor: Predictor | None = Field(
        default=None, description="runtime, resources and placement of the predictors"
    )
    scale: Scale = Field(
        default_factory=Scale,
        description="replicas of a version's predictor, and the metric by which they scale",
    )
    batching: Batching | None = Field(
        default=None,
        description="adaptive batching in the predictors; none: each request separately",
    )
    rollout: Rollout = Field(
        default_factory=Rollout, description="steps and times of the change to a new version"
    )
    rollback: Rollback | None = Field(
        default=None, description="version that serves in place of the one of the alias"
    )
    retention: Retention | None = Field(
        default=None,
        description="days after which predictions are deleted; none: those of the installation",
    )

    @property
    def formats(self) -> frozenset[ArtifactFormat]:
        """Every artifact format that may be served for this model."""
        return SAFE_FORMATS | frozenset(self.allow_formats)


class ConditionType(OpenEnum):
    """Type of a condition."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"


class Condition(Resource):
    """One observation, in the format of Kubernetes conditions."""

    type: ConditionType = Field(
        description=(
            "Ready: the model serves; Progressing: a rollout is in progress; Degraded: the wanted "
            "version does not serve"
        )
    )
    status: Literal["True", "False", "Unknown"] = Field(description="whether the condition holds")
    reason: str = Field(description="why, as one word in CamelCase")
    message: str = Field(default="", description="why, as a sentence")
    last_transition_time: datetime = Field(description="when the status changed last")


class TrafficRole(OpenEnum):
    """Role of a version in the traffic list."""

    LIVE = "live"
    CANARY = "canary"
    PREVIOUS = "previous"
    DRAINING = "draining"


class TrafficTarget(Resource):
    """One version with its share of the traffic and its address, by which the gateway routes."""

    version: str = Field(description="version of the registered model")
    role: TrafficRole = Field(description="why the version is in this list")
    percent: Percent = Field(description="per cent of the traffic that the version gets")
    digest: str = Field(
        description="SHA-256 of the manifest of the version's files; it never changes"
    )
    run_id: str | None = Field(default=None, description="MLflow run that made the version")
    service: str = Field(
        description="InferenceService, which is also the model's name at its predictor"
    )
    url: str = Field(description="base URL of the predictor")
    verified: bool = Field(
        default=True,
        description=(
            "false: its runtime loads the verified files by another format, and does not prove "
            "which version it serves"
        ),
    )
    since: datetime = Field(description="when this role and share began")


class RollbackState(OpenEnum):
    """State of a rollback."""

    PENDING = "Pending"
    SERVING = "Serving"
    ENDED = "Ended"
    FAILED = "Failed"


class RollbackStatus(Rollback):
    """The rollback of the spec, as far as it has come; without one, the last that has ended."""

    state: RollbackState = Field(
        description=(
            "Pending: its version is not live yet; Serving: it is; Ended: the alias points to "
            "another version, and the controller removes the field; Failed: the registry has no "
            "such version, and the traffic stays as it is until the field or the alias is changed"
        )
    )
    message: str = Field(default="", description="state and next step, as a sentence")

    @property
    def is_final(self) -> bool:
        return self.state is RollbackState.ENDED


class UnpromotedVersion(Resource):
    """A version that serves although no promotion has moved the alias to it."""

    version: str = Field(description="version of the registered model")
    since: datetime = Field(description="when it first took traffic after the move")


class ModelStatus(Resource):
    """Observed state; only the controller writes it."""

    observed_generation: int = Field(
        default=0, description="generation of the spec that this status is about"
    )
    conditions: list[Condition] = Field(
        default_factory=list, description="Ready, Progressing and Degraded, with their reasons"
    )
    traffic: list[TrafficTarget] = Field(
        default_factory=list,
        description=(
            "versions that have predictors, and their shares; the gateway routes by this list alone"
        ),
    )
    alias_version: str | None = Field(
        default=None, description="version to which the alias pointed when the registry was read"
    )
    rollback: RollbackStatus | None = None
    unpromoted: UnpromotedVersion | None = None

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type is kind), None)


class RoutedMetadata(Resource):
    """Metadata that the gateway reads."""

    name: str


class RoutedModel(Resource):
    """A Model as the gateway reads it: invalid fields that it does not use are ignored."""

    metadata: RoutedMetadata
    spec: RoutedSpec
    status: ModelStatus = Field(default_factory=ModelStatus)

    @property
    def name(self) -> str:
        return self.metadata.name


class Metadata(BaseModel):
    """Part of ``metadata`` that the controller reads; other fields are preserved."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    name: str = Field(pattern=MODEL_NAME)
    namespace: str | None = None
    uid: str | None = None
    generation: int = 0
    resource_version: str | None = None
    deletion_timestamp: datetime | None = None


class Model(Resource):
    """A model that is served: where its versions are registered, which one is live, and how its
    traffic moves.
    """

    api_version: Literal["serving.slipway.dev/v1alpha1"] = "serving.slipway.dev/v1alpha1"
    kind: Literal["Model"] = "Model"
    metadata: Metadata
    spec: ModelSpec
    status: ModelStatus = Field(default_factory=ModelStatus)

    @property
    def name(self) -> str:
        return self.metadata.name


def admitted(manifest: Mapping[str, Any]) -> Model:
    """Return the Model that is about to be stored, without its status, which is written separately.

    Raises ValidationError for all that a reader rejects, and for unknown fields and formats: they
    are misspelt, or belong to a release that is not installed yet.
    """
    metadata = {"name": manifest.get("metadata", {}).get("name")}
    authored = {key: value for key, value in manifest.items() if key != "status"}
    return Model.model_validate(
        {**authored, "metadata": metadata}, extra="forbid", by_name=False, context=_ADMISSION
    )
