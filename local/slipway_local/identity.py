"""Configuration of the bundled identity provider, and login."""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from joserfc.jwk import RSAKey

from slipway_local.state import State

CLIENT = "slipway"
AUDIENCE = "slipway-api"
SCIM_CLIENT = "slipway-gateway"
ACCOUNTS = {"admin": ["admin"], "scientist": ["scientist"], "user": ["user"]}
SIMULATOR = "simulator"
SERVICE_ACCOUNTS = ("robot", SIMULATOR)
TOKEN_SECONDS = 15 * 60
"""Lifetime of a user's access token, which the client renews."""


@dataclass(frozen=True)
class Identity:
    """The provider, Canaille, on a loopback port."""

    state: State
    port: int
    database_url: str
    redirect_uris: list[str]
    smtp: str | None = None
    """``smtp://host:port`` of the mail server; None: no mail is sent."""
    registration: bool = False
    """True when anyone may create an account."""

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the provider and of ``python -m slipway_identity``."""
        accounts = {
            name: {"password": self.password(name), "groups": groups}
            for name, groups in ACCOUNTS.items()
        }
        config = self.state.write_private("identity/canaille.toml", self._config())
        robots = {
            name: {"secret": self.state.secret(f"service-account-{name}")}
            for name in SERVICE_ACCOUNTS
        }
        return {
            "CANAILLE_CONFIG": str(config),
            "SLIPWAY_IDENTITY_ACCOUNTS": json.dumps(accounts),
            "SLIPWAY_IDENTITY_SERVICE_ACCOUNTS": json.dumps(robots),
            # Canaille's default is port 25 of this machine.
            **({} if self.smtp else {"CANAILLE__SMTP": "null"}),
            "SLIPWAY_IDENTITY_SCIM_SECRET": self.scim_secret,
            "SLIPWAY_IDENTITY_REDIRECT_URIS": json.dumps(self.redirect_uris),
            # A token by one command; for development only, on loopback only.
            "SLIPWAY_IDENTITY_PUBLIC_PASSWORD_GRANT": "true",
        }

    @property
    def scim_secret(self) -> str:
        return self.state.secret("identity-scim")

    def password(self, account: str) -> str:
        return self.state.secret(f"account-{account}")

    def login(self, account: str) -> str:
        """Return an access token of the account, by the password grant."""
        form = {
            "grant_type": "password",
            "client_id": CLIENT,
            "username": account,
            "password": self.password(account),
            "scope": "openid profile email groups",
        }
        response = httpx.post(f"{self.issuer}/oauth/token", data=form, timeout=30)
        response.raise_for_status()
        return str(response.json()["access_token"])

    def _config(self) -> str:
        key = self._signing_key()
        jwk = ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())
        expiry = ", ".join(
            f"{grant} = {TOKEN_SECONDS}"
            for grant in ("authorization_code", "password", "refresh_token")
        )
        return f"""\
SECRET_KEY = "{self.state.secret("identity-session")}"
SERVER_NAME = "127.0.0.1:{self.port}"
# With it a forgotten password is reset by an unguessable link, without it by six digits.
TRUSTED_HOSTS = ["127.0.0.1", "localhost"]
PREFERRED_URL_SCHEME = "http"
OAUTH2_TOKEN_EXPIRES_IN = {{ {expiry} }}

[CANAILLE]
NAME = "Slipway"
DATABASE = "sql"
TIMEZONE = "UTC"
ENABLE_REGISTRATION = {json.dumps(self.registration)}
{self._mail()}
# Canaille's default lets every user create groups; groups are roles here.
[CANAILLE.ACL.DEFAULT]
PERMISSIONS = ["edit_self", "use_oidc"]
# Canaille's default has telephone and street, too, which Slipway does not need.
READ = ["user_name"]
WRITE = ["given_name", "family_name", "display_name", "emails", "password", "preferred_language"]

[CANAILLE.ACL.ADMIN]
PERMISSIONS = ["manage_users", "manage_all_groups", "manage_oidc", "delete_account"]
WRITE = ["groups", "lock_date"]
FILTER = {{ groups = "admin" }}

[CANAILLE_SQL]
DATABASE_URI = "{self.database_url}"

[CANAILLE_OIDC]
ACTIVE_JWKS = [{{ {jwk} }}]
"""

    def _mail(self) -> str:
        if self.smtp is None:
            return ""
        server = urlsplit(self.smtp)
        return f"""
[CANAILLE.SMTP]
HOST = "{server.hostname}"
PORT = {server.port or 25}
FROM_ADDR = "slipway@slipway.example"
"""

    def _signing_key(self) -> dict[str, str]:
        path = self.state.root / "identity" / "signing_key.json"
        if not path.exists():
            key = RSAKey.generate_key(2048, private=True, auto_kid=True)
            self.state.write_private(
                "identity/signing_key.json", json.dumps(key.as_dict(private=True))
            )
        return dict(json.loads(path.read_text()))
