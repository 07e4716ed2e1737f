"""Settings of the controller, read from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ControllerSettings(BaseSettings):
    """Where the cluster and the registry are, and how often to look at them."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True, populate_by_name=True, env_ignore_empty=True
    )

    cluster: str = Field(validation_alias="SLIPWAY_CLUSTER")
    """``kubernetes://NAMESPACE``, or ``local:///path`` for the local stand-in."""

    tracking_uri: str = Field(validation_alias="MLFLOW_TRACKING_URI")
    """Base URL of the MLflow tracking server."""

    tracking_username: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_USERNAME")
    """User of the tracking server, when it asks for one."""

    tracking_password: SecretStr | None = Field(
        default=None, validation_alias="MLFLOW_TRACKING_PASSWORD"
    )
    """Password of that user."""

    predictor_token: SecretStr | None = Field(
        default=None, validation_alias="SLIPWAY_PREDICTOR_TOKEN"
    )
    """What predictors ask their callers for: their ``SLIPWAY_SERVING_TOKEN``."""

    interval: float = Field(default=1.0, gt=0, validation_alias="SLIPWAY_CONTROLLER_INTERVAL")
    """Seconds between two looks at the registry's aliases. Changes in the cluster are seen at once
    on Kubernetes.
    """

    host: str = Field(default="127.0.0.1", validation_alias="SLIPWAY_CONTROLLER_HOST")
    """Address of ``/livez`` and ``/metrics``."""

    port: int | None = Field(
        default=None, ge=0, le=65535, validation_alias="SLIPWAY_CONTROLLER_PORT"
    )
    """Port of ``/livez`` and ``/metrics``; not served when not set."""

    @property
    def predictor_headers(self) -> dict[str, str]:
        """What every request to a predictor carries."""
        token = self.predictor_token
        return {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}

    @property
    def tracking_credentials(self) -> tuple[str, str] | None:
        """User and password for the tracking server, when both are set."""
        if self.tracking_username and self.tracking_password:
            return self.tracking_username, self.tracking_password.get_secret_value()
        return None
