"""Service accounts of the bundled provider: the program as it is served, over HTTP."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.gateway.house import free_port
from tests.gateway.loopback import wait_for

SECRET = "a secret of sixteen signs or more"
CONFIG = """
SECRET_KEY = "{secret}"
SERVER_NAME = "127.0.0.1:{port}"
PREFERRED_URL_SCHEME = "http"

[CANAILLE]
DATABASE = "sql"

[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{folder}/identity.sqlite"

[CANAILLE_OIDC]
ACTIVE_JWKS = [{{ {key} }}]
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. ``nightly`` is a service account, ``ada`` a user."""
    folder, port = tmp_path_factory.mktemp("identity"), free_port()
    key = RSAKey.generate_key(2048, private=True, auto_kid=True).as_dict(private=True)
    jwk = ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())
    config = folder / "canaille.toml"
    config.write_text(CONFIG.format(secret=SECRET, port=port, folder=folder, key=jwk))
    environment = {
        **os.environ,
        "CANAILLE_CONFIG": str(config),
        "SLIPWAY_IDENTITY_ACCOUNTS": json.dumps({"ada": {"password": SECRET, "groups": ["user"]}}),
        "SLIPWAY_IDENTITY_SERVICE_ACCOUNTS": json.dumps({"nightly": {"secret": SECRET}}),
    }
    for _ in range(2):  # it is safe to repeat
        subprocess.run([sys.executable, "-m", "slipway_identity"], env=environment, check=True)
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "--workers", "0"]
    process = subprocess.Popen([*command, "slipway_identity.application:create_app()"], env=environment, cwd=folder)
    try:
        wait_for("the provider", lambda: _answers(f"http://127.0.0.1:{port}"), seconds=90)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration", trust_env=False).is_success
    except httpx.TransportError:
        return False


def log_in(provider: str, secret: str = SECRET, **form: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", **form}
    return httpx.post(f"{provider}/oauth/token", data=form, auth=("nightly", secret), trust_env=False)


def test_a_service_account_gets_a_signed_token_that_names_it_twice_and_gives_no_group(provider: str) -> None:
    answer = log_in(provider).json()
    keys = KeySet.import_key_set(httpx.get(f"{provider}/oauth/jwks.json", trust_env=False).json())
    token = jwt.decode(answer["access_token"], keys, algorithms=["RS256"])
    now = int(time.time())
    times = {name: token.claims.pop(name) for name in ("iat", "exp")}
    assert token.claims.pop("jti") != claims_of(log_in(provider).json()["access_token"])["jti"]
    assert token.claims == {"iss": provider, "sub": "nightly", "client_id": "nightly", "aud": ["slipway"]}
    assert now - 60 < times["iat"] <= now < times["exp"] == times["iat"] + answer["expires_in"]
    assert token.header["typ"] == "at+jwt"
    assert answer["token_type"] == "Bearer"
    assert "refresh_token" not in answer


def test_no_scope_and_no_other_way_gives_it_more(provider: str) -> None:
    asked = log_in(provider, scope="openid groups").json()["access_token"]
    assert "groups" not in claims_of(asked)
    assert log_in(provider, "another secret").status_code == 401
    as_ada = {"grant_type": "password", "username": "ada", "password": SECRET}
    assert log_in(provider, **as_ada).status_code == 400
    public = {"grant_type": "client_credentials", "client_id": "slipway"}
    assert httpx.post(f"{provider}/oauth/token", data=public, trust_env=False).status_code in (400, 401)


def test_a_users_token_does_not_look_like_a_service_accounts(provider: str) -> None:
    form = {"grant_type": "password", "client_id": "slipway", "username": "ada", "password": SECRET, "scope": "openid groups"}
    answer = httpx.post(f"{provider}/oauth/token", data=form, trust_env=False).json()
    claims = claims_of(answer["access_token"])
    assert (claims["sub"], claims["groups"]) == ("ada", ["user"])
    assert "client_id" not in claims


def claims_of(token: str) -> dict[str, Any]:
    """Not verified: what it says, whoever says it."""
    part = token.split(".")[1]
    content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return content
