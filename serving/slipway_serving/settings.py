"""Settings of the serving image, read from the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from slipway_contract.body import VALUES


class ServingSettings(BaseSettings):
    """How a predictor behaves. Host and ports are MLServer's own: MLSERVER_HOST,
    MLSERVER_HTTP_PORT, MLSERVER_METRICS_PORT.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_SERVING_", use_attribute_docstrings=True, populate_by_name=True
    )

    threads: int = Field(default=1, ge=1)
    """Threads that one prediction may use; 1 suits a pod with one CPU."""

    body_limit: int = Field(default=16 * 2**20, ge=1)
    """Largest request body in bytes; more is answered with 413 and not read into memory."""

    body_budget: int = Field(default=64 * 2**20, ge=1)
    """Bytes of request bodies that are in memory at a time; more is answered with 503 and
    Retry-After.
    """

    value_limit: int = Field(default=VALUES, ge=1)
    """Values of one request, rows × columns; more is answered with 413 before it is parsed."""

    token: SecretStr | None = Field(default=None, min_length=16)
    """What callers must send as ``Authorization: Bearer``; without it anyone who reaches the port
    may ask. Health and readiness are open for probes either way.
    """

    drain_seconds: float = Field(default=1.0, ge=0)
    """Time between SIGTERM, when readiness goes false, and the moment when no more requests are
    taken.
    """

    finish_seconds: int = Field(default=12, ge=1)
    """Time that requests under way have to finish after that; together less than the pod's grace
    period.
    """

    termination_log: Path = Field(
        default=Path("/dev/termination-log"), validation_alias="SLIPWAY_TERMINATION_LOG"
    )
    """File that takes the one line said when the artifact cannot be served; the controller shows it
    in the Model's status.
    """


class StorageSettings(BaseSettings):
    """Where the storage initializer finds MLflow, and how patient it is."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_STORAGE_", use_attribute_docstrings=True, populate_by_name=True
    )

    tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI", pattern=r"^https?://")
    """Base URL of the MLflow tracking server, which must serve artifacts through its proxy."""

    username: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """User of the tracking server, when it asks for one."""

    password: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_PASSWORD")
    """Password of that user."""

    token: SecretStr | None = Field(default=None, validation_alias="MLFLOW_TRACKING_TOKEN")
    """Bearer token, instead of user and password."""

    termination_log: Path = Field(
        default=Path("/dev/termination-log"), validation_alias="SLIPWAY_TERMINATION_LOG"
    )
    """File that takes the one line said on failure; KServe shows it in the InferenceService's
    status.
    """

    timeout: float = Field(default=10.0, gt=0)
    """Seconds that MLflow may be silent, per connection and read."""

    attempts: int = Field(default=5, ge=1)
    """Tries per request on connection errors and 5xx, with growing pauses between."""

    backoff: float = Field(default=0.3, ge=0)
    """Seconds before the second try; doubled each time."""

    require_signed: bool = True
    """Whether an artifact is refused that none of the trusted keys has signed."""

    trusted_keys: str = ""
    """PEM of the public keys that may have signed, one after another: on an elliptic curve, bare or
    in a certificate.
    """

    size_limit: int = Field(default=4 * 2**30, ge=1)
    """Largest artifact in bytes, all files together."""
