"""Tokens of the bundled provider, and forgeries of them."""

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jwt
from joserfc.jwk import RSAKey
from slipway_identity.login import LoginFailed, log_in

from tests.local.conftest import LocalStack
from tests.support.stack import PATIENT, v2
from tests.support.waiting import SECONDS

pytestmark = pytest.mark.stack


def signing_key(stack: LocalStack) -> RSAKey:
    """Return the provider's own key, with which forged tokens have only one error."""
    return RSAKey.import_key(
        json.loads((stack.state / "identity" / "signing_key.json").read_text())
    )


def forged(stack: LocalStack, header: dict[str, Any] | None = None, **claims: Any) -> str:
    key = signing_key(stack)
    now = int(time.time())
    good = {
        "iss": stack.issuer,
        "aud": ["slipway-api"],
        "sub": "user",
        "groups": ["user"],
        "iat": now,
        "exp": now + 300,
    }
    return jwt.encode(
        {"alg": "RS256", "kid": key.kid, "typ": "at+jwt", **(header or {})}, {**good, **claims}, key
    )


def unsigned(stack: LocalStack) -> str:
    return by_hand(stack, {"alg": "none"}, lambda _: b"")


def by_hand(stack: LocalStack, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """Return a token that joserfc would not make."""
    head = encoded(json.dumps({"kid": signing_key(stack).kid, **header}).encode())
    text = f"{head}.{forged(stack).split('.')[1]}"
    return f"{text}.{encoded(sign(text.encode()))}"


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed_with_the_public_key(stack: LocalStack) -> str:
    secret = signing_key(stack).as_pem(private=False)
    return by_hand(stack, {"alg": "HS256"}, lambda text: hmac.digest(secret, text, "sha256"))


def with_unknown_crit(stack: LocalStack) -> str:
    key = signing_key(stack).private_key
    assert isinstance(key, RSAPrivateKey)
    header = {"alg": "RS256", "crit": ["shape"], "shape": "round"}
    return by_hand(stack, header, lambda text: key.sign(text, PKCS1v15(), SHA256()))


FORGERIES: dict[str, tuple[Any, str]] = {
    "expired": (lambda stack: forged(stack, exp=int(time.time()) - 3600), "expired"),
    "wrong audience": (lambda stack: forged(stack, aud=["someone-else"]), "audience"),
    "wrong issuer": (lambda stack: forged(stack, iss="http://127.0.0.1:1"), "issuer"),
    "alg none": (unsigned, "alg"),
    "HS256 with the public key": (signed_with_the_public_key, "alg"),
    "unknown crit": (with_unknown_crit, "crit"),
    "no token at all": (lambda _: "", ""),
    "not a token": (lambda _: "abc", ""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize(
    "path", ["/v2/models/heart/infer", "/v1/models/heart/predictions", "/v1/me"]
)
def test_an_invalid_token_is_rejected_with_401_and_its_problem(
    stack: LocalStack, forgery: str, path: str
) -> None:
    make, why = FORGERIES[forgery]
    token = make(stack)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=stack.url, timeout=SECONDS) as client:
        answer = (
            client.get(path, headers=headers)
            if path == "/v1/me"
            else client.post(path, json=v2(PATIENT), headers=headers)
        )
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert why in answer.headers["WWW-Authenticate"]


def test_the_same_token_without_the_error_is_accepted(stack: LocalStack) -> None:
    with httpx.Client(
        base_url=stack.url, headers={"Authorization": f"Bearer {forged(stack)}"}, timeout=SECONDS
    ) as client:
        assert client.get("/v1/me").status_code == 200


def test_a_wrong_password_gives_no_token(stack: LocalStack) -> None:
    form = {
        "grant_type": "password",
        "client_id": "slipway",
        "username": "unknown",
        "password": "guess",
    }
    assert httpx.post(f"{stack.issuer}/oauth/token", data=form, timeout=SECONDS).status_code == 400
    with pytest.raises(LoginFailed):
        log_in(stack.issuer, "unknown", "guess")


def test_the_id_token_of_a_login_is_not_accepted(stack: LocalStack) -> None:
    tokens = log_in(stack.issuer, "scientist", stack.passwords["scientist"])
    for name, status in (("access_token", 200), ("id_token", 401)):
        with httpx.Client(
            base_url=stack.url, headers={"Authorization": f"Bearer {tokens[name]}"}, timeout=SECONDS
        ) as client:
            assert client.get("/v1/models").status_code == status


def test_only_the_owner_can_read_secrets_and_no_log_has_them(stack: LocalStack) -> None:
    secrets = json.loads((stack.state / "secrets.json").read_text())
    for name in ("secrets.json", "env", "cluster", "identity/signing_key.json"):
        assert (stack.state / name).stat().st_mode & 0o077 == 0
    logs = (
        "".join(log.read_text(errors="replace") for log in stack.state.glob("**/*.log"))
        + stack.screen
    )
    assert [name for name, secret in secrets.items() if secret in logs] == []
