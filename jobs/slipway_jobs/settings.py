"""What a Job is told by its environment."""

import getpass
import subprocess
from pathlib import Path
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from slipway_jobs.errors import WrongParameter


class Settings(BaseSettings):
    """Environment variables; ``SLIPWAY_`` stands before each name that has none of its own."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
    )

    mlflow_tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI", pattern=r"^https?://")
    """The MLflow tracking server. There is no default: MLflow's own would be a file in the current
    folder.
    """

    data: Path | None = None
    """A mirror: a folder that is looked into before any public source."""

    fetch: bool = True
    """Whether a dataset may be fetched from its public source."""

    fetch_timeout: float = Field(default=5, gt=0)
    """Seconds to wait for a public source, to connect and for each part of the answer."""

    database_url: str | None = None
    """PostgreSQL that holds the event log, as a libpq URL."""

    sweep: str | None = None
    """Name of the sweep that a worker of it belongs to; on Kubernetes that of its Job."""

    completion_index: int = Field(default=0, validation_alias="JOB_COMPLETION_INDEX")
    """Which of the workers of a sweep this is; Kubernetes sets it."""

    predictor_token: SecretStr | None = Field(default=None, min_length=16)
    """What predictors ask their callers for: their ``SLIPWAY_SERVING_TOKEN``."""

    import_limit: int = Field(default=2**31 - 1, ge=1)
    """Largest file in bytes that is imported; ONNX has none above two GiB."""

    import_hosts: frozenset[str] = frozenset()
    """Names of hosts from which models may be imported although their addresses are not public, as
    a JSON list.
    """

    signing_key: Path | None = None
    """PEM file with the private key (elliptic curve) that artifacts are signed with; nothing is
    signed when not set.
    """

    git_revision: str | None = None
    """The revision of the code, where there is no git repository to ask (in an image)."""

    image: str = "none (run from a checkout)"
    """The container image that this runs in, by digest."""

    request_id: str | None = None
    """Id of the request to the gateway that asked for the Job."""

    actor: str | None = None
    """In whose name a promotion happens; the operating system's user when not set."""

    @property
    def revision(self) -> str:
        """``SLIPWAY_GIT_REVISION``, else what git says of this code; ``-dirty`` when it was changed
        since.
        """
        return self.git_revision or _git_revision(Path(__file__).parent)

    @property
    def who(self) -> str:
        return self.actor or getpass.getuser()


class SimulatorSettings(Settings):
    """Of a service account that calls the gateway. MLflow is not asked for: it is never called."""

    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI")

    url: str = Field(pattern=r"^https?://")
    """The gateway."""

    oidc_issuer: str = Field(pattern=r"^https?://")
    """The identity provider, by the name that stands in tokens."""

    oidc_discovery_url: str | None = None
    """Base URL at which it is reached from here; the issuer's own when not set."""

    client_id: str = "simulator"
    """Which service account it is."""

    client_secret: SecretStr
    """The service account's."""


def read_settings() -> Settings:
    """Raises WrongParameter naming the variable."""
    return _read(Settings)


def read_simulator_settings() -> SimulatorSettings:
    """Raises WrongParameter naming the variable."""
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


def _git_revision(folder: Path) -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
