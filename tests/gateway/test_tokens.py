"""Authentication by tokens: valid ones, and the reasons for rejections."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from joserfc.jwk import RSAKey
from pydantic import ValidationError
from slipway_gateway.identity.tokens import MAX_CACHED_BYTES, TokenRules, Tokens

from tests.gateway.environment import Client, Environment
from tests.gateway.issuer import AUDIENCE, Issuer
from tests.support.waiting import wait_for


def _forged(
    header: dict[str, object], claims: dict[str, object], secret: bytes | None = None
) -> str:
    parts = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    signature = hmac.new(secret, signed, hashlib.sha256).digest() if secret else b""
    return b".".join([signed, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def _none(issuer: Issuer) -> str:
    return _forged({"alg": "none", "typ": "JWT"}, issuer.claims())


def _hs256_with_the_public_key(issuer: Issuer) -> str:
    key = issuer.keys[-1]
    assert isinstance(key, RSAKey)
    return _forged(
        {"alg": "HS256", "kid": key.kid, "typ": "JWT"}, issuer.claims(), key.as_pem(private=False)
    )


def _unknown_crit(issuer: Issuer) -> str:
    return _forged(
        {"alg": "RS256", "kid": issuer.keys[-1].kid, "crit": ["exp2"], "exp2": 1}, issuer.claims()
    )


def _changed_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.token("ada").split(".")
    claims = (
        base64.urlsafe_b64encode(orjson.dumps(issuer.claims("root", "admin"))).rstrip(b"=").decode()
    )
    return f"{header}.{claims}.{signature}"


REFUSED: dict[str, tuple[Callable[[Issuer], str | None], str]] = {
    "no token": (lambda _: None, "the request has no token"),
    "not a JWT": (lambda _: "a.b", "not a signed JWT"),
    "not readable": (lambda _: "a.b.c", "header of the token is invalid"),
    "expired": (lambda issuer: issuer.token(exp=int(time.time()) - 60), "expired"),
    "no expiry": (lambda issuer: issuer.token(exp=None), "has no valid expiry"),
    "not valid yet": (lambda issuer: issuer.token(nbf=int(time.time()) + 600), "not valid yet"),
    "wrong audience": (lambda issuer: issuer.token(aud=["other"]), "wrong audience"),
    "no audience": (lambda issuer: issuer.token(aud=None), "wrong audience"),
    "wrong issuer": (lambda issuer: issuer.token(iss="http://evil.example"), "wrong issuer"),
    "unprintable subject": (lambda issuer: issuer.token("a\0b"), "no valid sub"),
    "no subject": (lambda issuer: issuer.token(sub=None), "no valid sub"),
    "alg none": (_none, "algorithm none is not allowed"),
    "HS256 with the public key": (_hs256_with_the_public_key, "algorithm HS256 is not allowed"),
    "RS384": (lambda issuer: issuer.token(alg="RS384"), "algorithm RS384 is not allowed"),
    "unknown crit": (_unknown_crit, "crit"),
    "another type of token": (
        lambda issuer: issuer.sign(issuer.claims(), typ="logout+jwt"),
        "not an access token",
    ),
    "an ID token: nonce": (
        lambda issuer: issuer.sign(issuer.claims(nonce="n"), typ="JWT"),
        "ID token: it has the claim nonce",
    ),
    "an ID token: at_hash": (
        lambda issuer: issuer.sign(issuer.claims(at_hash="h"), typ=None),
        "ID token: it has the claim at_hash",
    ),
    "an ID token of Keycloak": (
        lambda issuer: issuer.sign(issuer.claims(typ="ID"), typ="JWT"),
        "of type ID",
    ),
    "a refresh token of Keycloak": (
        lambda issuer: issuer.sign(issuer.claims(typ="Refresh"), typ="JWT"),
        "of type Refresh",
    ),
    "an ID token of Cognito": (
        lambda issuer: issuer.sign(issuer.claims(token_use="id"), typ=None),
        "of type id",
    ),
    "too long": (
        lambda issuer: issuer.token(groups=[f"{n:036}" for n in range(330)]),
        "bytes, and at most 16384 are allowed",
    ),
    "changed claims": (_changed_claims, "signature"),
}


@pytest.mark.parametrize("path", ["/v1/me", "/v2/models/heart"])
@pytest.mark.parametrize("case", REFUSED)
def test_an_invalid_token_is_401_with_the_reason(
    client: Client, issuer: Issuer, case: str, path: str
) -> None:
    make, reason = REFUSED[case]
    answer = client.get(path, make(issuer))
    challenge = answer.headers["www-authenticate"]
    assert answer.status_code == 401
    assert challenge.startswith(
        'Bearer realm="slipway", error="invalid_token", error_description="'
    )
    assert reason in challenge
    assert reason in answer.text


def test_a_token_signed_by_an_unpublished_key_is_rejected(client: Client, issuer: Issuer) -> None:
    token = Issuer().sign(issuer.claims(), kid="unpublished")
    answer = client.get("/v1/me", token)
    assert answer.status_code == 401
    assert "does not publish" in answer.headers["www-authenticate"]


def test_an_authorization_scheme_other_than_bearer_is_rejected(client: Client) -> None:
    answer = client.http.get("/v1/me", headers={"authorization": "Basic YTpi"})
    assert answer.status_code == 401
    assert "send Bearer" in answer.headers["www-authenticate"]


def test_unknown_key_ids_do_not_cause_repeated_fetches_of_the_keys(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:  # no other gateway fetches its keys
        environment.issuer = issuer
        with environment.gateway(oidc_refetch_seconds=3600) as client:
            before = issuer.fetches
            for number in range(20):
                token = issuer.sign(issuer.claims(), kid=f"unknown-{number}")
                assert client.get("/v1/me", token).status_code == 401
            assert issuer.fetches == before


@pytest.mark.parametrize(
    ("kind", "alg"),
    [("RSA", "RS256"), ("RSA", "PS256"), ("EC", "ES256"), ("OKP", "EdDSA"), ("OKP", "Ed25519")],
)
def test_a_token_signed_by_a_new_key_is_accepted_without_a_restart(
    client: Client, issuer: Issuer, kind: str, alg: str
) -> None:
    old = issuer.token("before")
    issuer.rotate(kind)
    try:
        new = issuer.token("after", alg=alg)
        wait_for("the new key", lambda: client.get("/v1/me", new).status_code == 200)
        assert client.get("/v1/me", old).json()["account"] == "before"
    finally:
        issuer.rotate()  # the other tests sign with RS256
        wait_for("the last key", lambda: client.get("/v1/me", issuer.token()).status_code == 200)


def test_known_keys_stay_valid_while_the_issuer_is_unavailable(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        environment.issuer = issuer
        with environment.gateway(oidc_refresh_seconds=0.05) as client:
            issuer.server.__exit__()
            wait_for("the failed refresh", lambda: client.gateway.access.keys.problem)
            assert client.get("/v1/me", issuer.token("new-token")).json()["account"] == "new-token"
            issuer.server.__enter__()
            wait_for("the good refresh", lambda: client.gateway.access.keys.problem is None)


def test_without_its_issuer_the_gateway_starts_and_is_not_ready(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    issuer = Issuer()
    with issuer:
        environment.issuer = issuer
    # The issuer has stopped, and its port is free.
    with environment.gateway(ready=False) as client:
        answer = client.get("/readyz", who=None)
        assert answer.status_code == 503
        assert "identity provider" in answer.json()["identity"]
        assert client.get("/livez", who=None).status_code == 200
        refusal = client.get("/v1/me", issuer.token())
        assert refusal.status_code == 503
        assert refusal.headers["retry-after"]
        with issuer:
            wait_for("readiness", lambda: client.get("/readyz", who=None).status_code == 200)
            assert client.get("/v1/me", issuer.token()).status_code == 200


def test_me_returns_the_roles_and_groups_of_the_caller(client: Client, issuer: Issuer) -> None:
    answer = client.get("/v1/me", issuer.token("grace", "scientist", "admin", "clinicians")).json()
    assert answer["account"] == "grace"
    assert answer["roles"] == ["admin", "scientist"]
    assert answer["groups"] == ["scientist", "admin", "clinicians"]


def test_the_memory_of_cached_tokens_is_bounded_and_the_newest_stay(
    client: Client, issuer: Issuer
) -> None:
    tokens = Tokens(TokenRules(issuer.name, AUDIENCE, leeway=0), client.gateway.access.keys)

    async def caller(number: int) -> str:
        groups = [f"group-{each}-of-{number}" for each in range(600)]
        header = f"Bearer {issuer.token(f'ada-{number}', *groups)}".encode()
        assert tokens.cached(header) is None
        found = await tokens.caller(header)
        assert tokens.cached(header) is found
        return found.account

    async def ask() -> None:
        for number in range(10):
            assert await caller(number) == f"ada-{number}"

    asyncio.run(ask())
    one = tokens._checked_bytes // 10
    assert len(tokens._checked) == 10
    for number in range(2 * MAX_CACHED_BYTES // one):
        tokens._add(number.to_bytes(32), next(iter(tokens._checked.values()))[0], 0.0, one)
    assert MAX_CACHED_BYTES - one <= tokens._checked_bytes <= MAX_CACHED_BYTES
    assert next(reversed(tokens._checked)) == number.to_bytes(32)


@pytest.mark.parametrize("groups", [{"admin": True}, 7, [["admin"]], [{"name": "admin"}]])
def test_groups_of_another_type_than_text_give_no_role(
    client: Client, issuer: Issuer, groups: object
) -> None:
    claims = {**issuer.claims(), "groups": groups}
    answer: httpx.Response = client.get("/v1/me", issuer.sign(claims))
    assert answer.json()["roles"] == []


ROLES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "one text (ADFS)": ({}, {"groups": "scientist"}, ["scientist"]),
    "another claim (Entra)": ({"oidc_roles_claim": "roles"}, {"roles": ["admin"]}, ["admin"]),
    "a path (Keycloak)": (
        {"oidc_roles_claim": "realm_access.roles"},
        {"realm_access": {"roles": ["user"]}},
        ["user"],
    ),
    "a missing path": (
        {"oidc_roles_claim": "realm_access.roles"},
        {"realm_access": ["user"]},
        [],
    ),
    "a name with dots (Auth0)": (
        {"oidc_roles_claim": "https://a.example/roles"},
        {"https://a.example/roles": ["user"]},
        ["user"],
    ),
    "a prefix (Keycloak)": ({"oidc_roles_prefix": "/"}, {"groups": ["/user", "admin"]}, ["user"]),
    "mapped groups": (
        {"oidc_roles": {"ml": "admin", "all": "user"}},
        {"groups": ["all", "ml", "scientist"]},
        ["admin", "user"],
    ),
    "a mapping without the name of a role": (
        {"oidc_roles": {"ml": "admin"}},
        {"groups": ["admin", "user"]},
        [],
    ),
    "prefix and mapping": (
        {"oidc_roles_prefix": "acme-", "oidc_roles": {"ml": "admin"}},
        {"groups": ["acme-ml", "ml"]},
        ["admin"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ROLES)
def test_roles_are_read_from_the_configured_claim(
    new_environment: Callable[[], Environment], case: str
) -> None:
    environment = new_environment()
    settings, claims, roles = ROLES[case]
    with environment.gateway(**settings) as client:
        token = environment.issuer.sign({**environment.issuer.claims(groups=None), **claims})
        assert client.get("/v1/me", token).json()["roles"] == roles


def test_a_mapping_cannot_give_the_role_service(
    new_environment: Callable[[], Environment],
) -> None:
    with pytest.raises(ValidationError, match="oidc_roles"):
        new_environment().settings(oidc_roles={"robots": "service"})


def test_a_403_names_the_roles_claim_and_its_value(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with environment.gateway(oidc_roles_claim="realm_access.roles") as client:
        token = environment.issuer.sign(
            {
                **environment.issuer.claims(groups=None),
                "realm_access": {"roles": ["/user", "offline_access"]},
            }
        )
        for sent, found in (
            (token, "/user, offline_access"),
            (environment.issuer.token(), "no group"),
        ):
            answer = client.get("/v1/models", sent)
            assert answer.status_code == 403
            assert (
                f"read from the token's claim realm_access.roles, which contains {found}"
                in answer.json()["detail"]
            )


def test_only_tokens_of_type_at_jwt_are_accepted_when_required(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with environment.gateway(oidc_require_at_jwt=True) as client:
        claims = environment.issuer.claims()
        for typ in ("JWT", None):
            answer = client.get("/v1/me", environment.issuer.sign(claims, typ=typ))
            assert answer.status_code == 401
            assert "its type must be at+jwt" in answer.json()["detail"]
        for typ in ("at+jwt", "application/at+jwt"):
            token = environment.issuer.sign({**claims, "nonce": "n"}, typ=typ)
            assert client.get("/v1/me", token).status_code == 200


def test_access_tokens_with_a_nonce_can_be_allowed(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with environment.gateway(oidc_refused_claims=["at_hash"]) as client:
        claims = environment.issuer.claims(nonce="n")
        assert client.get("/v1/me", environment.issuer.sign(claims, typ="JWT")).status_code == 200
        id_token = environment.issuer.sign({**claims, "at_hash": "h"}, typ="JWT")
        assert client.get("/v1/me", id_token).status_code == 401


def test_a_token_without_a_key_id_is_verified_with_every_key_of_its_algorithm(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        for kind in ("RSA", "EC", "OKP"):
            issuer.rotate(kind)
        environment.issuer = issuer
        with environment.gateway() as client:
            for key, alg in zip(issuer.keys, ("RS256", "PS256", "ES256", "EdDSA"), strict=True):
                token = issuer.sign(issuer.claims(alg), alg=alg, key=key, kid=None)
                assert client.get("/v1/me", token).status_code == 200
            answer = client.get("/v1/me", Issuer().sign(issuer.claims(), kid=None))
            assert answer.status_code == 401
            assert "signature" in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("members", [("kid",), ("use",), ("kid", "use", "alg")])
def test_optional_members_of_published_keys_can_be_missing(
    new_environment: Callable[[], Environment], members: tuple[str, ...]
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        issuer.unpublished = members
        issuer.rotate()
        environment.issuer = issuer
        with environment.gateway() as client:
            for key in issuer.keys:
                claims = issuer.claims()
                for token in (issuer.sign(claims, key=key), issuer.sign(claims, key=key, kid=None)):
                    assert client.get("/v1/me", token).status_code == 200


def test_a_key_without_an_id_can_be_replaced_without_a_restart(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        issuer.unpublished = ("kid",)
        environment.issuer = issuer
        with environment.gateway(oidc_refetch_seconds=0) as client:
            assert client.get("/v1/me", issuer.token("before", kid=None)).status_code == 200
            del issuer.keys[:]
            issuer.rotate()
            token = issuer.sign(issuer.claims("after"), kid=None)
            assert client.get("/v1/me", token).status_code == 200


def test_an_encryption_key_does_not_verify_signatures(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        signing, other = issuer.keys[0], RSAKey.generate_key(2048, {"kid": "same"})
        public: dict[str, Any] = {**other.as_dict(private=False), "kid": signing.kid}
        issuer.strange_keys = [{**public, "use": "enc"}, {**public, "alg": "RSA-OAEP"}]
        environment.issuer = issuer
        with environment.gateway() as client:
            assert client.get("/v1/me", issuer.token()).status_code == 200
            token = issuer.sign(issuer.claims(), key=other, kid=signing.kid)
            assert client.get("/v1/me", token).status_code == 401


def test_an_unsupported_key_does_not_affect_the_others(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as issuer:
        issuer.strange_keys = [
            {"kty": "EC", "crv": "P-000", "x": "AA", "y": "AA", "kid": "odd"},
            {"kty": "oct", "k": "AAAA"},
        ]
        environment.issuer = issuer
        with environment.gateway() as client:
            assert client.get("/v1/me", issuer.token()).status_code == 200


def test_an_issuer_can_have_an_internal_discovery_url(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer("https://login.example/realms/one") as issuer:
        environment.issuer = issuer
        with environment.gateway() as client:
            assert client.get("/v1/me", issuer.token()).status_code == 200
            inside = client.get("/v1/me", issuer.token(iss=issuer.url))
            assert inside.status_code == 401
            assert "wrong issuer" in inside.headers["www-authenticate"]
            scheme = client.get("/v1/openapi.json", who=None).json()["components"][
                "securitySchemes"
            ]["OpenID Connect"]
            assert (
                scheme["openIdConnectUrl"]
                == "https://login.example/realms/one/.well-known/openid-configuration"
            )


def test_a_different_issuer_at_the_discovery_url_is_rejected(
    new_environment: Callable[[], Environment],
) -> None:
    environment = new_environment()
    with Issuer() as other:
        environment.issuer = other
        with environment.gateway(
            ready=False, oidc_issuer="https://login.example", oidc_discovery_url=other.url
        ) as client:
            wait_for("the first fetch", lambda: other.fetches)
            answer = client.get("/readyz", who=None)
            assert answer.status_code == 503
            assert "is not https://login.example" in wait_for(
                "the reason", lambda: client.gateway.access.keys.problem
            )
