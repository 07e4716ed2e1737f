"""Settings of the controller, read from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ControllerSettings(BaseSettings):
    """Addresses of the cluster and the registry, and the interval of reconciliations."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True, populate_by_name=True, env_ignore_empty=True
    )

    cluster: str = Field(validation_alias="SLIPWAY_CLUSTER")
    """``kubernetes://NAMESPACE``, or ``local:///path`` for the local cluster."""

    tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    """Base URL of the MLflow tracking server."""

    tracking_username: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """User of the tracking server, when it requires one."""

    tracking_password: SecretStr | None = Field(
        default=None, validation_alias="MLFLOW_TRACKING_PASSWORD"
    )
    """Password of that user."""

    predictor_token: SecretStr | None = Field(
        default=None, validation_alias="SLIPWAY_PREDICTOR_TOKEN"
    )
    """Bearer token of requests to predictors: their ``SLIPWAY_SERVING_TOKEN``."""

    interval: float = Field(default=1.0, gt=0, validation_alias="SLIPWAY_CONTROLLER_INTERVAL")
    """Seconds between two reads of the registry's aliases.

    On Kubernetes, changes in the cluster trigger a reconciliation immediately.
    """

    host: str = Field(default="127.0.0.1", validation_alias="SLIPWAY_CONTROLLER_HOST")
    """Address of ``/livez`` and ``/metrics``."""

    port: int | None = Field(
        default=None, ge=0, le=65535, validation_alias="SLIPWAY_CONTROLLER_PORT"
    )
    """Port of ``/livez`` and ``/metrics``; without it, neither is served."""

    @property
    def predictor_headers(self) -> dict[str, str]:
        """Headers of every request to a predictor."""
        token = self.predictor_token
        return {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    @property
    def tracking_credentials(self) -> tuple[str, str] | None:
        """User and password for the tracking server, when both are set."""
        if self.tracking_username and self.tracking_password:
            return self.tracking_username, self.tracking_password.get_secret_value()
        return None
