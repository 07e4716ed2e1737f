"""A training Job that a Model declares."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from slipway_contract.parameters import ParametersSchema
from slipway_contract.pod import (
    RESERVED_VARIABLES,
    Environment,
    EnvVar,
    ResourceRequirements,
    check_variables,
)
from slipway_contract.resource import Resource
from slipway_contract.schedule import check_schedule, check_time_zone

_REGISTRY = r"[A-Za-z0-9.-]+(:[0-9]+)?/"
_PATH = r"[a-z0-9._-]+(/[a-z0-9._-]+)*"
_TAG = r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"


class TrainingJob(Resource):
    """A program that logs a version. The rest of its pod is that of the CronJob ``train``."""

    image: str | None = Field(
        default=None,
        max_length=512,
        pattern=rf"^({_REGISTRY})?{_PATH}{_TAG}$",
        description=(
            "image with a tag or digest, whose entrypoint is started; none: the platform's Jobs, "
            "`python -m slipway_jobs`"
        ),
    )
    args: list[Annotated[str, Field(max_length=4096)]] = Field(
        default_factory=list,
        max_length=64,
        description="arguments; those of a caller are appended: `--set=NAME=VALUE`",
    )
    env: Environment = Field(default_factory=list, description="additional variables")
    resources: ResourceRequirements | None = Field(
        default=None,
        description="requests and limits that replace those of the platform, GPUs included",
    )
    parameters: ParametersSchema | None = Field(
        default=None,
        description="JSON Schema of the parameters that a caller may set; none: no parameters",
    )
    schedule: str | None = Field(
        default=None,
        max_length=200,
        description="cron schedule, such as `0 4 * * 1`; none: it is started by hand only",
    )
    time_zone: str | None = Field(
        default=None,
        max_length=100,
        description="IANA time zone of the schedule; none: that of the cluster",
    )
    deadline_seconds: int | None = Field(
        default=None,
        ge=60,
        le=604800,
        description="seconds after which the Job is ended; none: the platform's default",
    )

    @field_validator("image")
    @classmethod
    def _is_pinned(cls, image: str | None) -> str | None:
        if image and "@" not in image:
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                raise ValueError(
                    f"{image} may be another program tomorrow; name a tag other than latest, or a "
                    "digest"
                )
        return image

    @field_validator("env")
    @classmethod
    def _leaves_the_platform_alone(cls, env: list[EnvVar]) -> list[EnvVar]:
        check_variables(env, RESERVED_VARIABLES, "the platform sets it; use another name")
        return env

    @field_validator("schedule")
    @classmethod
    def _is_a_schedule(cls, schedule: str | None) -> str | None:
        if schedule is not None:
            check_schedule(schedule)
        return schedule

    @field_validator("time_zone")
    @classmethod
    def _is_a_time_zone(cls, name: str | None) -> str | None:
        if name is not None:
            check_time_zone(name)
        return name

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.time_zone and not self.schedule:
            raise ValueError(
                "timeZone has no effect without a schedule; set schedule, or remove it"
            )
        return self
