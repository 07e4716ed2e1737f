"""Who is let in, and what the others are told."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable

import httpx
import orjson
import pytest
from joserfc.jwk import RSAKey
from slipway_gateway.identity.tokens import MAX_CACHED_BYTES, Tokens

from tests.gateway.house import House, Visitor
from tests.gateway.issuer import AUDIENCE, Issuer
from tests.gateway.loopback import wait_for


def _forged(header: dict[str, object], claims: dict[str, object], secret: bytes | None = None) -> str:
    parts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = hmac.new(secret, signed, hashlib.sha256).digest() if secret else b""
    return b".".join([signed, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def _none(issuer: Issuer) -> str:
    return _forged({"alg": "none", "typ": "JWT"}, issuer.claims())


def _hs256_with_the_public_key(issuer: Issuer) -> str:
    key = issuer.keys[-1]
    assert isinstance(key, RSAKey)
    return _forged({"alg": "HS256", "kid": key.kid, "typ": "JWT"}, issuer.claims(), key.as_pem(private=False))


def _unknown_crit(issuer: Issuer) -> str:
    return _forged({"alg": "RS256", "kid": issuer.keys[-1].kid, "crit": ["exp2"], "exp2": 1}, issuer.claims())


def _changed_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.token("ada").split(".")
    claims = base64.urlsafe_b64encode(orjson.dumps(issuer.claims("root", "admin"))).rstrip(b"=").decode()
    return f"{header}.{claims}.{signature}"


REFUSED: dict[str, tuple[Callable[[Issuer], str | None], str]] = {
    "no token": (lambda _: None, "no token was sent"),
    "not a JWT": (lambda _: "a.b", "not a signed JWT"),
    "not readable": (lambda _: "a.b.c", "header cannot be read"),
    "expired": (lambda issuer: issuer.token(exp=int(time.time()) - 60), "expired"),
    "no expiry": (lambda issuer: issuer.token(exp=None), "does not say when it expires"),
    "not valid yet": (lambda issuer: issuer.token(nbf=int(time.time()) + 600), "not valid yet"),
    "wrong audience": (lambda issuer: issuer.token(aud=["other"]), "wrong audience"),
    "no audience": (lambda issuer: issuer.token(aud=None), "wrong audience"),
    "wrong issuer": (lambda issuer: issuer.token(iss="http://evil.example"), "wrong issuer"),
    "unprintable subject": (lambda issuer: issuer.token("a\0b"), "no sub"),
    "no subject": (lambda issuer: issuer.token(sub=None), "no sub"),
    "alg none": (_none, "algorithm none is not allowed"),
    "HS256 with the public key": (_hs256_with_the_public_key, "algorithm HS256 is not allowed"),
    "RS384": (lambda issuer: issuer.token(alg="RS384"), "algorithm RS384 is not allowed"),
    "unknown crit": (_unknown_crit, "crit"),
    "another type of token": (lambda issuer: issuer.sign(issuer.claims(), typ="logout+jwt"), "not an access token"),
    "changed claims": (_changed_claims, "signature"),
}


@pytest.mark.parametrize("path", ["/v1/me", "/v2/models/heart"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_token_is_answered_401_with_the_reason(visitor: Visitor, issuer: Issuer, case: str, path: str) -> None:
    make, reason = REFUSED[case]
    answer = visitor.get(path, make(issuer))
    challenge = answer.headers["www-authenticate"]
    assert answer.status_code == 401
    assert challenge.startswith('Bearer realm="slipway", error="invalid_token", error_description="')
    assert reason in challenge
    assert reason in answer.text


def test_a_key_that_nobody_published_is_refused(visitor: Visitor, issuer: Issuer) -> None:
    stranger = Issuer()
    token = stranger.sign(issuer.claims(), kid="stranger")
    answer = visitor.get("/v1/me", token)
    assert answer.status_code == 401
    assert "does not publish" in answer.headers["www-authenticate"]


def test_another_scheme_than_bearer_is_refused(visitor: Visitor) -> None:
    answer = visitor.client.get("/v1/me", headers={"authorization": "Basic YTpi"})
    assert answer.status_code == 401
    assert "not Bearer" in answer.headers["www-authenticate"]


def test_made_up_key_ids_do_not_make_the_gateway_ask_the_issuer_again_and_again(new_house: Callable[[], House]) -> None:
    house = new_house()
    with house.gateway(oidc_refetch_seconds=60) as visitor:
        before = house.issuer.fetches
        for number in range(20):
            assert visitor.get("/v1/me", house.issuer.sign(house.issuer.claims(), kid=f"made-up-{number}")).status_code == 401
        assert house.issuer.fetches == before


@pytest.mark.parametrize(
    ("kind", "alg"), [("RSA", "RS256"), ("RSA", "PS256"), ("EC", "ES256"), ("OKP", "EdDSA"), ("OKP", "Ed25519")]
)
def test_a_token_signed_by_a_new_key_is_accepted_without_a_restart(visitor: Visitor, issuer: Issuer, kind: str, alg: str) -> None:
    old = issuer.token("before")
    issuer.rotate(kind)
    try:
        new = issuer.token("after", alg=alg)
        wait_for("the new key", lambda: visitor.get("/v1/me", new).status_code == 200)
        assert visitor.get("/v1/me", old).json()["subject"] == "before"
    finally:
        issuer.rotate()  # the other tests sign with RS256
        wait_for("the last key", lambda: visitor.get("/v1/me", issuer.token()).status_code == 200)


def test_known_keys_keep_working_while_the_issuer_is_away(new_house: Callable[[], House]) -> None:
    house = new_house()
    with Issuer() as issuer:
        house.issuer = issuer
        with house.gateway(oidc_refresh_seconds=0.05) as visitor:
            issuer.server.__exit__()
            wait_for("the failed refresh", lambda: visitor.gateway.keys.problem)
            assert visitor.get("/v1/me", issuer.token("new-token")).json()["subject"] == "new-token"
            issuer.server.__enter__()
            wait_for("the good refresh", lambda: visitor.gateway.keys.problem is None)


def test_without_its_issuer_the_gateway_starts_and_says_that_it_is_not_ready(new_house: Callable[[], House]) -> None:
    house = new_house()
    issuer = Issuer()
    with issuer:
        house.issuer = issuer
    # It is gone again, and its port is free.
    with house.gateway(ready=False) as visitor:
        answer = visitor.get("/readyz", who=None)
        assert answer.status_code == 503
        assert "identity provider" in answer.json()["identity"]
        assert visitor.get("/livez", who=None).status_code == 200
        refusal = visitor.get("/v1/me", issuer.token())
        assert refusal.status_code == 503
        assert refusal.headers["retry-after"]
        with issuer:
            wait_for("readiness", lambda: visitor.get("/readyz", who=None).status_code == 200)
            assert visitor.get("/v1/me", issuer.token()).status_code == 200


def test_me_tells_the_roles_that_the_groups_give(visitor: Visitor, issuer: Issuer) -> None:
    answer = visitor.get("/v1/me", issuer.token("grace", "scientist", "admin", "choir")).json()
    assert answer["subject"] == "grace"
    assert answer["roles"] == ["admin", "scientist"]
    assert answer["groups"] == ["scientist", "admin", "choir"]


def test_callers_of_large_tokens_are_cached_up_to_a_size_and_the_newest_stay(visitor: Visitor, issuer: Issuer) -> None:
    tokens = Tokens(issuer.name, AUDIENCE, visitor.gateway.keys, leeway=0)

    async def caller(number: int) -> str:
        groups = [f"group-{each}-of-{number}" for each in range(600)]
        found = await tokens.caller(f"Bearer {issuer.token(f'ada-{number}', *groups)}".encode(), lambda: None)
        return found.subject

    async def ask() -> None:
        for number in range(10):
            assert await caller(number) == f"ada-{number}"

    asyncio.run(ask())
    one = tokens._checked_bytes // 10
    assert len(tokens._checked) == 10
    for number in range(2 * MAX_CACHED_BYTES // one):
        tokens._remember(number.to_bytes(32), next(iter(tokens._checked.values()))[0], 0.0, one)
    assert MAX_CACHED_BYTES - one <= tokens._checked_bytes <= MAX_CACHED_BYTES
    assert next(reversed(tokens._checked)) == number.to_bytes(32)


def test_groups_that_are_no_list_of_names_give_no_role(visitor: Visitor, issuer: Issuer) -> None:
    claims = {**issuer.claims(), "groups": "admin"}
    answer: httpx.Response = visitor.get("/v1/me", issuer.sign(claims))
    assert answer.json()["roles"] == []


def test_a_key_that_is_not_understood_leaves_the_others_in_use(new_house: Callable[[], House]) -> None:
    house = new_house()
    with Issuer() as issuer:
        issuer.strange_keys = [{"kty": "EC", "crv": "P-000", "x": "AA", "y": "AA", "kid": "odd"}, {"kty": "oct", "k": "AAAA"}]
        house.issuer = issuer
        with house.gateway() as visitor:
            assert visitor.get("/v1/me", issuer.token()).status_code == 200


def test_an_issuer_that_is_known_by_another_name_outside_is_asked_inside(new_house: Callable[[], House]) -> None:
    house = new_house()
    with Issuer("https://login.example/realms/one") as issuer:
        house.issuer = issuer
        with house.gateway() as visitor:
            assert visitor.get("/v1/me", issuer.token()).status_code == 200
            inside = visitor.get("/v1/me", issuer.token(iss=issuer.url))
            assert inside.status_code == 401
            assert "wrong issuer" in inside.headers["www-authenticate"]
            scheme = visitor.get("/v1/openapi.json", who=None).json()["components"]["securitySchemes"]["OpenID Connect"]
            assert scheme["openIdConnectUrl"] == "https://login.example/realms/one/.well-known/openid-configuration"


def test_another_issuer_at_the_inner_address_is_not_believed(new_house: Callable[[], House]) -> None:
    house = new_house()
    with Issuer() as other:
        house.issuer = other
        with house.gateway(ready=False, oidc_issuer="https://login.example", oidc_discovery_url=other.url) as visitor:
            wait_for("the first fetch", lambda: other.fetches)
            answer = visitor.get("/readyz", who=None)
            assert answer.status_code == 503
            assert "not of https://login.example" in wait_for("the reason", lambda: visitor.gateway.keys.problem)
