"""Specs that the local cluster supports, as types. It rejects any other field by name.

Fields typed ``Any`` are accepted and have no effect on a local process: they concern a scheduler, a
kernel or an image registry.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel
from slipway_cluster.clock import utc_now
from slipway_cluster.interface import Kind, NotFound

DEPLOYMENT = Kind("apps/v1", "Deployment")
SECRET = Kind("v1", "Secret")
CONFIG_MAP = Kind("v1", "ConfigMap")

Data = Callable[[Kind, str], Mapping[str, str]]
"""Return the decoded keys of a Secret or ConfigMap; raise NotFound."""
Seconds = Annotated[int, Field(ge=0)]


class Spec(BaseModel):
    """Part of a Kubernetes object: camelCase in JSON, strict types, unknown fields rejected."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True
    )


class FieldRef(Spec):
    """Reference to a field of the pod's own metadata."""

    field_path: str = Field(pattern=r"^metadata\.(name|uid|(labels|annotations)\['[^']+'\])$")
    api_version: Literal["v1"] = "v1"

    def read(self, pod: Mapping[str, Any]) -> str:
        """Return the field's value, empty when it does not exist, like Kubernetes' kubelet."""
        _, _, path = self.field_path.partition(".")
        group, bracket, key = path.partition("['")
        found = pod["metadata"].get(group)
        return str((found or {}).get(key.removesuffix("']"), "") if bracket else found)


class KeySelector(Spec):
    """A key of a Secret or ConfigMap."""

    name: str
    key: str
    optional: bool = False

    def read(self, kind: Kind, data: Data) -> str | None:
        """Return the value, None for a missing optional one. Raises NotFound."""
        try:
            return data(kind, self.name)[self.key]
        except (NotFound, KeyError):
            if self.optional:
                return None
            raise NotFound(f"{kind.name} {self.name} has no key {self.key!r}") from None


class EnvVarSource(Spec):
    """Reference to a field of the pod, or to a key of a Secret or ConfigMap."""

    field_ref: FieldRef | None = None
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("needs one of fieldRef, secretKeyRef and configMapKeyRef")
        return self

    def read(self, pod: Mapping[str, Any], data: Data) -> str | None:
        """Return the value, None for a missing optional key. Raises NotFound."""
        if self.field_ref:
            return self.field_ref.read(pod)
        if self.secret_key_ref:
            return self.secret_key_ref.read(SECRET, data)
        return self.config_map_key_ref.read(CONFIG_MAP, data) if self.config_map_key_ref else None


class EnvVar(Spec):
    """A variable with a value or a reference."""

    name: str = Field(min_length=1)
    value: str = ""
    value_from: EnvVarSource | None = None


class ContainerPort(Spec):
    """A port that the local cluster replaces by ``hostPort``, or by a free one."""

    container_port: int = Field(ge=1, le=65535)
    host_port: int | None = Field(default=None, ge=1, le=65535)
    name: str | None = None
    protocol: Literal["TCP"] = "TCP"


class HttpHeader(Spec):
    """A header of a request."""

    name: str
    value: str


class HttpGet(Spec):
    """An HTTP request; ``port`` is a container port, by number or by name."""

    path: str = "/"
    port: int | str
    scheme: Literal["HTTP"] = "HTTP"
    http_headers: list[HttpHeader] = Field(default_factory=list)


class ExecAction(Spec):
    """A command in the container's environment; status 0 is a success."""

    command: list[str] = Field(min_length=1)


class Probe(Spec):
    """A probe by HTTP or by a command."""

    http_get: HttpGet | None = None
    exec: ExecAction | None = None
    initial_delay_seconds: Seconds = 0
    period_seconds: int = Field(default=10, ge=1)
    timeout_seconds: int = Field(default=1, ge=1)
    success_threshold: int = Field(default=1, ge=1)
    failure_threshold: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _has_one_action(self) -> Self:
        if (self.http_get is None) == (self.exec is None):
            raise ValueError("needs either httpGet or exec")
        return self


class Sleep(Spec):
    """Time between the end of readiness and SIGTERM."""

    seconds: Seconds


class PreStop(Spec):
    """Action before SIGTERM."""

    sleep: Sleep


class Lifecycle(Spec):
    """Lifecycle hooks of a container."""

    pre_stop: PreStop


class VolumeMount(Spec):
    """Mount of a volume.

    Its path is replaced by the volume's folder in arguments and environment.
    """

    name: str
    mount_path: str = Field(pattern="^/.+")
    read_only: bool = False


class Container(Spec):
    """A container, which is one process."""

    name: str = Field(min_length=1)
    image: str = Field(min_length=1)
    command: list[str] = Field(default_factory=list)
    args: list[str] = Field(default_factory=list)
    env: list[EnvVar] = Field(default_factory=list)
    ports: list[ContainerPort] = Field(default_factory=list)
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    volume_mounts: list[VolumeMount] = Field(default_factory=list)
    working_dir: str | None = None
    image_pull_policy: Any = None
    resources: Any = None
    security_context: Any = None
    termination_message_path: Any = None
    termination_message_policy: Any = None

    @model_validator(mode="after")
    def _names_its_ports(self) -> Self:
        names = {port.name for port in self.ports}
        for probe in (self.startup_probe, self.readiness_probe, self.liveness_probe):
            port = probe.http_get.port if probe and probe.http_get else None
            if isinstance(port, str) and port not in names:
                raise ValueError(
                    f"a probe uses port {port!r}, which is not among the container's ports"
                )
        return self


class HostPath(Spec):
    """A folder of this machine."""

    path: str = Field(pattern="^/.+")
    type: Any = None


class SecretVolume(Spec):
    """Files with the keys of a Secret; only their owner can read them."""

    secret_name: str
    default_mode: Any = None


class ConfigMapVolume(Spec):
    """Files with the keys of a ConfigMap."""

    name: str
    default_mode: Any = None


class Volume(Spec):
    """A volume of one of four types."""

    name: str
    empty_dir: dict[str, Any] | None = None
    host_path: HostPath | None = None
    secret: SecretVolume | None = None
    config_map: ConfigMapVolume | None = None

    @model_validator(mode="after")
    def _has_one_type(self) -> Self:
        if len(self.model_fields_set - {"name"}) != 1:
            raise ValueError("needs one of emptyDir, hostPath, secret and configMap")
        return self


class PodSpec(Spec):
    """A pod: init containers in order, then one container."""

    containers: list[Container] = Field(min_length=1, max_length=1)
    init_containers: list[Container] = Field(default_factory=list)
    volumes: list[Volume] = Field(default_factory=list)
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: Seconds = 30
    priority: int = 0
    """A pod starts when all pods of a higher priority are ready, and ends before them."""
    affinity: Any = None
    automount_service_account_token: Any = None
    enable_service_links: Any = None
    image_pull_secrets: Any = None
    node_selector: Any = None
    priority_class_name: Any = None
    security_context: Any = None
    service_account_name: Any = None
    tolerations: Any = None
    topology_spread_constraints: Any = None

    @model_validator(mode="after")
    def _mounts_its_volumes(self) -> Self:
        names = {volume.name for volume in self.volumes}
        for container in (*self.init_containers, *self.containers):
            for mount in container.volume_mounts:
                if mount.name not in names:
                    raise ValueError(
                        f"container {container.name!r} mounts {mount.name!r}, which is not "
                        "among the volumes"
                    )
        return self

    @property
    def main(self) -> Container:
        return self.containers[0]


class DeploymentPodSpec(PodSpec):
    """A Deployment's pod, which is always restarted."""

    restart_policy: Literal["Always"] = "Always"


class DeploymentPodTemplate(Spec):
    """Pod template of a Deployment."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: DeploymentPodSpec


class DeploymentStrategy(Spec):
    """Order of a replacement: the new pod first (RollingUpdate), or the end of the old one."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: Any = None


class DeploymentSpec(Spec):
    """A Deployment; one process stands for all replicas, none for zero."""

    template: DeploymentPodTemplate
    replicas: int = Field(default=1, ge=0)
    strategy: DeploymentStrategy = Field(default_factory=DeploymentStrategy)
    min_ready_seconds: Any = None
    progress_deadline_seconds: Any = None
    revision_history_limit: Any = None
    selector: Any = None


class JobPodSpec(PodSpec):
    """A Job's pod, whose restarts are limited."""

    restart_policy: Literal["OnFailure", "Never"]


class JobPodTemplate(Spec):
    """Pod template of a Job."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: JobPodSpec


class ExitCodes(Spec):
    """Exit codes of a container."""

    operator: Literal["In"]
    values: list[int] = Field(min_length=1)


class PodFailureRule(Spec):
    """Rule that fails the Job without a retry."""

    action: Literal["FailJob"]
    on_exit_codes: ExitCodes


class PodFailurePolicy(Spec):
    """Rules for failures that are not retried."""

    rules: list[PodFailureRule]


class JobSpec(Spec):
    """A Job of one pod with retries; if Indexed, one pod for each index below ``completions``."""

    template: JobPodTemplate
    parallelism: int = Field(default=1, ge=1)
    completions: int = Field(default=1, ge=1)
    completion_mode: Literal["NonIndexed", "Indexed"] = "NonIndexed"
    backoff_limit: int = Field(default=6, ge=0)
    pod_failure_policy: PodFailurePolicy | None = None
    active_deadline_seconds: int | None = Field(default=None, ge=1)
    ttl_seconds_after_finished: int | None = Field(default=None, ge=0)
    suspend: Literal[False] = False

    @model_validator(mode="after")
    def _counts_by_index(self) -> Self:
        if not self.is_indexed and (self.completions, self.parallelism) != (1, 1):
            raise ValueError(
                "completions and parallelism above 1 are supported with completionMode Indexed only"
            )
        return self

    @model_validator(mode="after")
    def _policy_needs_pods_that_fail(self) -> Self:
        if self.pod_failure_policy and self.template.spec.restart_policy != "Never":
            raise ValueError("podFailurePolicy needs restartPolicy Never")
        return self

    @property
    def is_indexed(self) -> bool:
        return self.completion_mode == "Indexed"


class JobTemplate(Spec):
    """Job template of a CronJob."""

    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: JobSpec


class CronJobSpec(Spec):
    """A CronJob."""

    schedule: str
    time_zone: str | None = None
    suspend: bool = False
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Allow"
    starting_deadline_seconds: int | None = Field(default=None, ge=0)
    successful_jobs_history_limit: int = Field(default=3, ge=0)
    failed_jobs_history_limit: int = Field(default=1, ge=0)
    job_template: JobTemplate

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (LookupError, OSError, ValueError):
                raise ValueError(f"{name!r} is not a time zone") from None
        return name

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, schedule: str) -> str:
        expression = MACROS.get(schedule, schedule)
        if len(expression.split()) != 5:
            raise ValueError(f"{schedule!r} does not have five fields")
        try:
            CronSim(expression, utc_now())
        except CronSimError as error:
            raise ValueError(f"{schedule!r} is not a schedule: {error}") from None
        return schedule


MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Named schedules of Kubernetes."""
