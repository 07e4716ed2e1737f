"""Settings of the local ring, read from the environment."""

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LocalSettings(BaseSettings):
    """Where things are. The defaults are those of a checkout after ``make install``."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_LOCAL_", use_attribute_docstrings=True)

    state: Path = Path(".slipway")
    """Folder of everything that the ring keeps: databases, artifacts, logs, secrets. Delete it to
    begin anew.
    """

    models: list[str] = ["heart", "digits"]
    """The sample models to train, promote and serve."""

    side_by_side: int = Field(default=3, ge=1)
    """How many models are trained at the same time."""

    apps: Path = Path(sys.prefix) / "bin"
    """Programs of the applications' environment."""

    serving: Path = Path(".venv-serving/bin")
    """Programs of the serving environment."""

    data: Path | None = Field(default=None, validation_alias="SLIPWAY_DATA")
    """Mirror folder with the public datasets; none: they are fetched, or made by a seeded
    generator.
    """

    fetch: bool = Field(default=True, validation_alias="SLIPWAY_FETCH")
    """Whether Jobs may fetch datasets from their public sources."""

    smtp: str | None = Field(default=None, pattern=r"^smtp://[^/@]+$")
    """``smtp://host:port`` of the mail server for registration and forgotten passwords; none: no
    mail is sent.
    """

    registration: bool = False
    """Whether anybody who reaches the login pages may make an account; its mail address is verified
    when there is ``smtp``.
    """

    deadline: float = 300.0
    """Seconds that any one step of the start may take."""
