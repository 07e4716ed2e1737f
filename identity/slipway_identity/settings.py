"""Settings of the bundled identity provider, read from the environment."""

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SCIM_CLIENT = "slipway-gateway"
"""The one OAuth client that may use SCIM."""

FORMER_MAIL_DOMAIN = "slipway.invalid"
"""Of the accounts that earlier bootstraps made: SCIM shows no such address, and then no user at
all.
"""


class Account(BaseModel):
    """A person who can log in from the start."""

    password: SecretStr = Field(min_length=12)
    groups: list[str] = Field(min_length=1)


class ServiceAccount(BaseModel):
    """A program that can log in from the start."""

    secret: SecretStr = Field(min_length=16)


class BodySettings(BaseSettings):
    """What the provider takes from callers before any login; read by the process that serves."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_IDENTITY_", use_attribute_docstrings=True)

    body_limit: int = Field(default=64 * 2**10, gt=0)
    """Bytes of a body; a larger one is answered 413."""

    body_seconds: float = Field(default=10, gt=0)
    """Time in which a body must arrive; then 408."""

    bodies: int = Field(default=256, gt=0)
    """Bodies that are read at a time; beyond it 503 with Retry-After."""


class IdentitySettings(BaseSettings):
    """What the provider holds after ``python -m slipway_identity``. Nothing here has a default that
    is a secret.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_IDENTITY_", use_attribute_docstrings=True)

    accounts: dict[str, Account]
    """JSON object: user name to password and groups. An account that exists keeps its password and
    gains the groups.
    """

    service_accounts: dict[str, ServiceAccount] = {}
    """JSON object: client id to secret. They log in as themselves, by client credentials."""

    groups: dict[str, str] = {
        "user": "May call models and see their own predictions",
        "scientist": "May train, evaluate and promote models as well",
        "admin": "May do everything, and manages access",
    }
    """Groups that Slipway knows as roles, each with its description."""

    client_id: str = "slipway"
    """OAuth client of the command line and the web pages. Public, so without a secret."""

    audience: str = "slipway-api"
    """What stands in ``aud`` of access tokens for Slipway. No client logs in by this name, so no ID
    token has it.
    """

    redirect_uris: list[str] = []
    """Where a browser may return to after login: the gateway's pages. The origin of the first one
    is the one from which a browser's scripts may ask for tokens.
    """

    terminal_redirect_uri: str = "http://127.0.0.1:8400/callback"
    """Where a browser may return to after a login that a program on the user's own machine began
    (RFC 8252). Nothing has to listen there: the code can be copied from the browser's address bar.
    """

    public_password_grant: bool = False
    """Whether the public client may exchange a user name and a password for a token. Anyone who
    reaches the token endpoint can guess passwords with it: set it only for development, where the
    provider listens on loopback.
    """

    scim_secret: SecretStr | None = Field(default=None, min_length=24)
    """Secret of the client ``slipway-gateway``, by which the gateway manages users over SCIM. None:
    there is no such client.
    """

    mail_domain: str = "slipway.example"
    """Domain of the bootstrap accounts' mail addresses; the default can never receive mail (RFC
    2606).
    """
