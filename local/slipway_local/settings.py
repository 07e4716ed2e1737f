"""Settings of the local stack, read from the environment."""

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LocalSettings(BaseSettings):
    """Paths and options. The defaults are those of a checkout after ``make install``."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_LOCAL_", use_attribute_docstrings=True)

    state: Path = Path(".slipway")
    """Folder with the state of the local stack: databases, artifacts, logs, secrets.

    Delete it to start from scratch.
    """

    models: list[str] = ["heart", "digits"]
    """Sample models to train, promote and serve."""

    side_by_side: int = Field(default=3, ge=1)
    """Number of models that are trained at the same time."""

    apps: Path = Path(sys.prefix) / "bin"
    """``bin`` folder of the applications' environment."""

    serving: Path = Path(".venv-serving/bin")
    """``bin`` folder of the serving environment."""

    data: Path | None = Field(default=None, validation_alias="SLIPWAY_DATA")
    """Mirror folder with the public datasets; none: they are downloaded, or generated with a seed.
    """

    fetch: bool = Field(default=True, validation_alias="SLIPWAY_FETCH")
    """Whether Jobs may download datasets from their public sources."""

    smtp: str | None = Field(default=None, pattern=r"^smtp://[^/@]+$")
    """``smtp://host:port`` of the mail server for registration and forgotten passwords.

    None: no mail is sent.
    """

    registration: bool = False
    """Whether anyone who reaches the login pages may create an account.

    Its mail address is verified when ``smtp`` is set.
    """

    deadline: float = 300.0
    """Seconds that one step of the start may take."""
