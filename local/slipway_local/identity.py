"""Accounts and keys of the bundled identity provider, and login."""

import json
from dataclasses import dataclass

import httpx
from joserfc.jwk import RSAKey

from slipway_local.state import State

CLIENT = "slipway"
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

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secrets(self) -> dict[str, str]:
        """The keys of the chart's Secret."""
        accounts = {
            name: {"password": self.password(name), "groups": groups}
            for name, groups in ACCOUNTS.items()
        }
        robots = {
            name: {"secret": self.state.secret(f"service-account-{name}")}
            for name in SERVICE_ACCOUNTS
        }
        return {
            "accounts": json.dumps(accounts),
            "service-accounts": json.dumps(robots),
            "active-jwks": json.dumps([self._signing_key()]),
            "secret-key": self.state.secret("identity-session"),
            "scim-secret": self.state.secret("identity-scim"),
        }

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

    def _signing_key(self) -> dict[str, str]:
        path = self.state.root / "identity" / "signing_key.json"
        if not path.exists():
            key = RSAKey.generate_key(2048, private=True, auto_kid=True)
            self.state.write_private(
                "identity/signing_key.json", json.dumps(key.as_dict(private=True))
            )
        return dict(json.loads(path.read_text()))
