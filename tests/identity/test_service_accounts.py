"""Service accounts of the bundled provider, over HTTP."""

import time

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.identity.provider import SECRET, claims_of
from tests.support.waiting import SECONDS


def log_in(provider: str, secret: str = SECRET, **form: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", **form}
    return httpx.post(
        f"{provider}/oauth/token",
        data=form,
        auth=("nightly", secret),
        trust_env=False,
        timeout=SECONDS,
    )


@pytest.mark.slow
def test_a_service_account_gets_a_signed_token_with_itself_as_subject_and_client(
    provider: str,
) -> None:
    answer = log_in(provider).json()
    keys = KeySet.import_key_set(
        httpx.get(f"{provider}/oauth/jwks.json", trust_env=False, timeout=SECONDS).json()
    )
    token = jwt.decode(answer["access_token"], keys, algorithms=["RS256"])
    now = int(time.time())
    times = {name: token.claims.pop(name) for name in ("iat", "exp")}
    assert token.claims.pop("jti") != claims_of(log_in(provider).json()["access_token"])["jti"]
    assert token.claims == {
        "iss": provider,
        "sub": "nightly",
        "client_id": "nightly",
        "aud": ["slipway-api"],
    }
    assert now - 60 < times["iat"] <= now < times["exp"] == times["iat"] + answer["expires_in"]
    assert token.header["typ"] == "at+jwt"
    assert answer["token_type"] == "Bearer"
    assert "refresh_token" not in answer


def test_no_scope_and_no_other_grant_gives_it_more(provider: str) -> None:
    asked = log_in(provider, scope="openid groups").json()["access_token"]
    assert "groups" not in claims_of(asked)
    assert log_in(provider, "another secret").status_code == 401
    as_ada = {"grant_type": "password", "username": "ada", "password": SECRET}
    assert log_in(provider, **as_ada).status_code == 400
    public = {"grant_type": "client_credentials", "client_id": "slipway"}
    assert httpx.post(
        f"{provider}/oauth/token", data=public, trust_env=False, timeout=SECONDS
    ).status_code in (
        400,
        401,
    )
