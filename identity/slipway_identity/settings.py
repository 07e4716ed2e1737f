"""Settings of the bundled identity provider, read from the environment."""

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SCIM_CLIENT = "slipway-gateway"
"""The only OAuth client that may use SCIM."""

FORMER_MAIL_DOMAIN = "slipway.invalid"
"""Mail domain of accounts of earlier versions.

SCIM rejects such an address, and then returns no user at all.
"""


class Account(BaseModel):
    """A user account that exists from the start."""

    password: SecretStr = Field(min_length=12)
    groups: list[str] = Field(min_length=1)


class ServiceAccount(BaseModel):
    """A service account that exists from the start."""

    secret: SecretStr = Field(min_length=16)


class BodySettings(BaseSettings):
    """Limits on requests before authentication; the serving process reads them."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_IDENTITY_", use_attribute_docstrings=True)

    body_limit: int = Field(default=64 * 2**10, gt=0)
    """Bytes of a body; a larger one is rejected with 413."""

    body_seconds: float = Field(default=10, gt=0)
    """Seconds in which a body must arrive; 408 after them."""

    bodies: int = Field(default=256, gt=0)
    """Bodies that are read at the same time; 503 with Retry-After beyond it."""


class IdentitySettings(BaseSettings):
    """State of the provider after ``python -m slipway_identity``; no secret has a default."""

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_IDENTITY_", use_attribute_docstrings=True)

    accounts: dict[str, Account]
    """JSON object: user name to password and groups.

    An existing account keeps its password and gains the groups.
    """

    service_accounts: dict[str, ServiceAccount] = {}
    """JSON object: client id to secret, for the client credentials grant."""

    groups: dict[str, str] = {
        "user": "May call models and see their own predictions",
        "scientist": "May train, evaluate and promote models as well",
        "admin": "May do everything, and manages access",
    }
    """Groups that are roles in Slipway, with descriptions."""

    client_id: str = "slipway"
    """OAuth client of the command line and the web pages; it is public, so it has no secret."""

    audience: str = "slipway-api"
    """Audience (``aud``) of access tokens for Slipway.

    No client logs in with this name, so no ID token has it.
    """

    redirect_uris: list[str] = []
    """Redirect URIs of logins in a browser: the gateway's pages.

    Scripts in a browser may request tokens from the origin of the first one.
    """

    terminal_redirect_uri: str = "http://127.0.0.1:47115/"
    """Redirect URI of logins that a program on the user's own machine starts (RFC 8252): the
    default is that of ``slipway login``.

    No server has to listen there: the address can be copied from the browser.
    """

    public_password_grant: bool = False
    """Whether the public client may exchange a user name and a password for a token.

    Anyone who reaches the token endpoint can guess passwords with it: set it only for development,
    where the provider listens on loopback.
    """

    scim_secret: SecretStr | None = Field(default=None, min_length=24)
    """Secret of the client ``slipway-gateway``, with which the gateway manages users over SCIM.

    None: this client does not exist.
    """

    mail_domain: str = "slipway.example"
    """Domain of the bootstrap accounts' mail addresses; the default never receives mail (RFC 2606).
    """
