"""KServe's specs, with the fields that the local cluster supports."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from slipway_local.standin.workload import Container, EnvVar, Seconds, Spec, Volume


class ModelFormat(Spec):
    """Format of a model, which selects a runtime when none is named."""

    name: str
    version: str | None = None


class Resources(Spec):
    """Requests and limits of a container, which a local process shares with all others."""

    requests: dict[str, str | int] = Field(default_factory=dict)
    limits: dict[str, str | int] = Field(default_factory=dict)


class ServedModel(Spec):
    """The model to serve and its runtime."""

    model_format: ModelFormat
    runtime: str | None = None
    storage_uri: str
    env: list[EnvVar] = Field(default_factory=list)
    protocol_version: str | None = None
    resources: Resources = Field(default_factory=Resources)


class Predictor(Spec):
    """A predictor; one process stands for all replicas, on the only node that there is."""

    model: ServedModel
    termination_grace_period_seconds: Seconds = 30
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    volumes: list[dict[str, Any]] = Field(default_factory=list)
    affinity: Any = None
    automount_service_account_token: Any = None
    container_concurrency: Any = None
    deployment_strategy: Any = None
    max_replicas: Any = None
    min_replicas: Any = None
    node_selector: Any = None
    priority_class_name: Any = None
    scale_metric: Any = None
    scale_target: Any = None
    security_context: Any = None
    service_account_name: Any = None
    timeout: Any = None
    tolerations: Any = None


class InferenceServiceSpec(Spec):
    """An InferenceService with a predictor only; transformers and explainers are not supported."""

    predictor: Predictor


class SupportedFormat(ModelFormat):
    """A format that a runtime serves."""

    auto_select: bool = False
    priority: int | None = None


class ServingRuntimeSpec(Spec):
    """Runtime of a format. Strings may contain ``{{.Name}}`` and ``{{.Labels.x}}``."""

    containers: list[Container] = Field(min_length=1, max_length=1)
    supported_model_formats: list[SupportedFormat] = Field(default_factory=list)
    volumes: list[Volume] = Field(default_factory=list)
    disabled: bool = False
    affinity: Any = None
    annotations: Any = None
    image_pull_secrets: Any = None
    labels: Any = None
    multi_model: Any = None
    node_selector: Any = None
    protocol_versions: list[str] = Field(default_factory=list)
    tolerations: Any = None


class UriFormat(Spec):
    """Storage URIs of a storage container, by either prefix or regex."""

    prefix: str | None = None
    regex: str | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.prefix is None) == (self.regex is None):
            raise ValueError("needs either prefix or regex")
        return self


class StorageContainerSpec(Spec):
    """Container that downloads a model before its runtime starts."""

    container: Container
    supported_uri_formats: list[UriFormat] = Field(min_length=1)
    workload_type: Literal["initContainer"] = "initContainer"
