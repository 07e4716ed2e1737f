"""Settings of the bundled identity provider, read from the environment."""

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SCIM_CLIENT = "slipway-gateway"
"""The one OAuth client that may use SCIM."""

FORMER_MAIL_DOMAIN = "slipway.invalid"
"""Of the accounts that earlier bootstraps made: SCIM shows no such address, and then no user at all."""


class Account(BaseModel):
    """A person who can log in from the start."""

    password: SecretStr = Field(min_length=12)
    groups: list[str] = Field(min_length=1)


class ServiceAccount(BaseModel):
    """A program that can log in from the start."""

    secret: SecretStr = Field(min_length=16)


class IdentitySettings(BaseSettings):
    """What the provider holds after ``python -m slipway_identity``. Nothing here has a default that is a secret."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_IDENTITY_", use_attribute_docstrings=True)

    accounts: dict[str, Account]
    """JSON object: user name to password and groups. An account that exists keeps its password and gains the groups."""

    service_accounts: dict[str, ServiceAccount] = {}
    """JSON object: client id to secret. They log in as themselves, by client credentials."""

    groups: dict[str, str] = {
        "user": "May call models and see their own predictions",
        "scientist": "May train, evaluate and promote models as well",
        "admin": "May do everything, and manages access",
    }
    """Groups that Slipway knows as roles, each with its description."""

    client_id: str = "slipway"
    """OAuth client of the command line and the web pages, and the audience of access tokens. Public, so without a secret."""

    redirect_uris: list[str] = []
    """Where a browser may return to after login: the gateway's pages."""

    scim_secret: SecretStr | None = Field(default=None, min_length=24)
    """Secret of the client ``slipway-gateway``, by which the gateway manages users over SCIM. None: there is no such client."""

    mail_domain: str = "slipway.example"
    """Domain of the bootstrap accounts' mail addresses; the default can never receive mail (RFC 2606)."""
