"""Settings of a Job, read from the environment."""

from pathlib import Path
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from slipway.errors import WrongParameter
from slipway.registry.actor import actor
from slipway.registry.revision import git_revision

SUBJECTS = ("user:", "client:")
"""Prefixes of the gateway's subjects; any other user of a Job is recorded as ``job:NAME``."""


def subject_of(user: str) -> str:
    """Return the user of a Job as the gateway's tables name callers."""
    return user if user.startswith(SUBJECTS) else f"job:{user}"


class Settings(BaseSettings):
    """Settings of a Job.

    Environment variables have the prefix ``SLIPWAY_`` unless they have an alias.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
    )

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI", pattern=r"^https?://")
    """URL of the MLflow tracking server.

    There is no default, because MLflow's own is a file in the current folder.
    """

    data: Path | None = None
    """Folder that mirrors datasets; it is read before any public source."""

    fetch: bool = True
    """Whether a dataset may be downloaded from its public source."""

    fetch_timeout: float = Field(default=5, gt=0)
    """Seconds to wait for a public source, to connect and for each part of the response."""

    database_url: str | None = None
    """PostgreSQL that holds the event log, as a libpq URL."""

    sweep: str | None = None
    """Name of the sweep that this worker belongs to; on Kubernetes the name of its Job."""

    completion_index: int = Field(default=0, validation_alias="JOB_COMPLETION_INDEX")
    """Index of this worker in its sweep; Kubernetes sets it."""

    predictor_token: SecretStr | None = Field(default=None, min_length=16)
    """Token for calls to predictors: their ``SLIPWAY_SERVING_TOKEN``."""

    import_limit: int = Field(default=2**31 - 1, ge=1)
    """Largest file in bytes that is imported; ONNX files have at most 2 GiB."""

    import_hosts: frozenset[str] = frozenset()
    """Names of hosts with private addresses from which models may be imported, as a JSON list."""

    signing_key: Path | None = None
    """PEM file with the private key (elliptic curve) that signs artifacts.

    Without it, artifacts are not signed.
    """

    git_revision: str | None = None
    """Revision of the code, for images, which have no git repository."""

    image: str = "none (run from a checkout)"
    """Digest of the container image that runs the Job."""

    request_id: str | None = None
    """Id of the gateway request that started the Job."""

    job: str | None = None
    """Name of the Kubernetes Job; the gateway sets it."""

    actor: str | None = None
    """User name that a promotion records; by default the user of the operating system."""

    @property
    def revision(self) -> str:
        """``SLIPWAY_GIT_REVISION``, otherwise the output of ``git describe --dirty``."""
        return self.git_revision or git_revision(Path(__file__).parent)

    @property
    def user(self) -> str:
        return self.actor or actor()


class SimulatorSettings(Settings):
    """Settings of the service account that calls the gateway. MLflow is not used."""

    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI")

    url: str = Field(pattern=r"^https?://")
    """URL of the gateway."""

    oidc_issuer: str = Field(pattern=r"^https?://")
    """URL of the identity provider, as tokens have it in `iss`."""

    oidc_discovery_url: str | None = None
    """Base URL at which the identity provider is reached from here; by default the issuer's."""

    client_id: str = "simulator"
    """Client id of the service account."""

    client_secret: SecretStr
    """Client secret of the service account."""


def read_settings() -> Settings:
    """Return the settings. Raises WrongParameter with the variable's name."""
    return _read(Settings)


def read_simulator_settings() -> SimulatorSettings:
    """Return the simulator's settings. Raises WrongParameter with the variable's name."""
    return _read(SimulatorSettings)


S = TypeVar("S", bound=Settings)


def _read(kind: type[S]) -> S:
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        variable = field if field.isupper() else f"SLIPWAY_{field.upper()}"
        raise WrongParameter(
            f"{variable}: {first['msg']}; set the environment variable {variable}"
        ) from None
