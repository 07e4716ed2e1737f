"""Settings of the serving image, read from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from slipway_contract.body import VALUES


class ServingSettings(BaseSettings):
    """Settings of a predictor.

    Host and ports are MLServer's own: MLSERVER_HOST, MLSERVER_HTTP_PORT, MLSERVER_METRICS_PORT.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_SERVING_", use_attribute_docstrings=True, populate_by_name=True
    )

    threads: int = Field(default=1, ge=1)
    """Threads that one prediction may use; 1 suits a pod with one CPU."""

    body_limit: int = Field(default=16 * 2**20, ge=1)
    """Largest request body in bytes; a larger one is rejected with 413 and not read into memory."""

    body_budget: int = Field(default=64 * 2**20, ge=1)
    """Bytes of request bodies in memory at a time; a request beyond it gets 503 with Retry-After.
    """

    value_limit: int = Field(default=VALUES, ge=1)
    """Values of one request, rows × columns; more are rejected with 413 before they are parsed."""

    token: SecretStr | None = Field(default=None, min_length=16)
    """Token that callers send as ``Authorization.

    Bearer``. Without it, any caller that reaches the port is accepted. Health and readiness need no
    token.
    """

    drain_seconds: float = Field(default=1.0, ge=0)
    """Seconds between SIGTERM, when readiness becomes false, and the end of accepting requests."""

    finish_seconds: int = Field(default=12, ge=1)
    """Seconds that running requests have to finish after that.

    The sum of both must be less than the pod's grace period.
    """

    termination_log: Path = Field(
        default=Path("/dev/termination-log"), validation_alias="SLIPWAY_TERMINATION_LOG"
    )
    """File for the one-line reason when the artifact cannot be served.

    The controller copies it to the Model's status.
    """


class StorageSettings(BaseSettings):
    """Connection to MLflow, retries and trust of the storage initializer."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_STORAGE_", use_attribute_docstrings=True, populate_by_name=True
    )

    tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI", pattern=r"^https?://")
    """Base URL of the MLflow tracking server, which must serve artifacts through its proxy."""

    username: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """User of the tracking server, when it requires one."""

    password: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    """Password of that user."""

    token: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_TOKEN")
    """Bearer token, instead of user and password."""

    termination_log: Path = Field(
        default=Path("/dev/termination-log"), validation_alias="SLIPWAY_TERMINATION_LOG"
    )
    """File for the one-line reason of a failure. KServe copies it to the InferenceService's status.
    """

    timeout: float = Field(default=10.0, gt=0)
    """Seconds without data after which a connection or a read fails."""

    attempts: int = Field(default=5, ge=1)
    """Tries per request on connection errors and 5xx, with increasing pauses."""

    backoff: float = Field(default=0.3, ge=0)
    """Seconds before the second try; doubled each time."""

    require_signed: bool = True
    """Whether an artifact without the signature of a trusted key is rejected."""

    trusted_keys: str = ""
    """PEM blocks of the trusted public keys, on elliptic curves, bare or in certificates."""

    size_limit: int = Field(default=4 * 2**30, ge=1)
    """Largest artifact in bytes, all files together."""
