"""Access tokens: JWTs of one OIDC issuer (RFC 9068, RFC 8725). Each refusal says which check failed."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from slipway_gateway.errors import Unauthenticated
from slipway_gateway.identity.keys import IssuerKeys
from slipway_gateway.identity.roles import PEOPLE, Role

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""Asymmetric ones only: with HS256 anyone who knows the public key could sign. RFC 9864 renamed EdDSA to Ed25519."""
TYPES = ("jwt", "at+jwt", "application/at+jwt")
MAX_TOKEN = 16 * 2**10
MAX_SUBJECT = 255
MAX_CACHED = 10_000
MAX_CACHED_BYTES = 8 * 2**20
"""Bytes of tokens whose callers are cached. A caller with many groups takes several times the bytes of its token."""
CACHED_SECONDS = 300
"""A token is checked anew after this time, so that a withdrawn key ends its use."""


class _Registry(JWSRegistry):
    """Does not warn of the name EdDSA: it is for the issuer to change, and most still use it."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"algorithm {name} is not allowed")
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the token says."""

    subject: str
    name: str | None
    groups: tuple[str, ...]
    roles: frozenset[Role]
    expires: float
    """Unix time from which the token is not valid, leeway included."""
    grantees: tuple[str, ...]
    """To whom a grant must be given so that it is this caller's: ``user:ada``, ``group:scientist``, ``client:nightly``."""
    issued: float = 0.0
    """Unix time at which the issuer made the token."""

    def within(self, groups: frozenset[str]) -> "Caller":
        """Return the caller with no other groups than these, and without the roles and grants that the others gave."""
        lost = {group for group in self.groups if group not in groups}
        if not lost:
            return self
        names = {f"group:{group}" for group in lost}
        return replace(
            self,
            groups=tuple(group for group in self.groups if group not in lost),
            roles=frozenset(role for role in self.roles if role.value not in lost),
            grantees=tuple(each for each in self.grantees if each not in names),
        )


class Tokens:
    """Checks tokens; one that was found good is not checked again for a while."""

    def __init__(self, issuer: str, audience: str, keys: IssuerKeys, *, leeway: int) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._leeway = leeway
        self._registry = _Registry(algorithms=ALGORITHMS, strict_check_header=False)
        self._checked: dict[bytes, tuple[Caller, float, int]] = {}
        """By the token's digest: the caller, the Unix time of the next check, and the size of the token."""
        self._checked_bytes = 0

    async def caller(self, authorization: bytes | None, before_checking: Callable[[], None]) -> Caller:
        """Who sent this Authorization header. Raises Unauthenticated, Unavailable.

        A token that is not known yet costs work; ``before_checking`` may raise to refuse it.
        """
        if authorization is None:
            raise Unauthenticated("no token was sent; send Authorization: Bearer and an access token")
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated("the Authorization header is not Bearer and a token")
        key, now = hashlib.sha256(token).digest(), time.time()
        if (found := self._checked.get(key)) and now < found[1]:
            return found[0]
        before_checking()
        caller = await self._check(token)
        self._remember(key, caller, min(caller.expires, now + CACHED_SECONDS), len(token))
        return caller

    def _remember(self, key: bytes, caller: Caller, until: float, size: int) -> None:
        """Cache a caller; the oldest ones go when there are too many, or their tokens are too large."""
        self._forget(key)
        self._checked[key] = (caller, until, size)
        self._checked_bytes += size
        while len(self._checked) > MAX_CACHED or self._checked_bytes > MAX_CACHED_BYTES:
            self._forget(next(iter(self._checked)))

    def _forget(self, key: bytes) -> None:
        if (found := self._checked.pop(key, None)) is not None:
            self._checked_bytes -= found[2]

    async def _check(self, token: bytes) -> Caller:
        header = self._header(token)
        keys = await self._keys.find(header.get("kid"), header["alg"])
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS, registry=self._registry).claims
        except BadSignatureError:
            raise Unauthenticated("the signature does not fit the token") from None
        except (JoseError, ValueError) as error:
            raise Unauthenticated(f"the token cannot be read: {error}") from None
        expires = self._check_claims(claims, time.time())
        return _caller(claims, expires)

    @staticmethod
    def _header(token: bytes) -> dict[str, Any]:
        """The token's header, read before anything is believed: it says which key to use."""
        if len(token) > MAX_TOKEN or token.count(b".") != 2:
            raise Unauthenticated("the token is not a signed JWT")
        encoded = token.partition(b".")[0]
        try:
            header = orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
        except ValueError:
            raise Unauthenticated("the token's header cannot be read") from None
        if not isinstance(header, dict) or not isinstance(header.get("kid"), str | None):
            raise Unauthenticated("the token's header cannot be read")
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated(f"algorithm {header.get('alg')!s:.20} is not allowed; use {', '.join(ALGORITHMS)}")
        if "crit" in header:
            raise Unauthenticated(f"the token demands extensions that are not known here: crit {header['crit']!s:.80}")
        if str(header.get("typ", "JWT")).lower() not in TYPES:
            raise Unauthenticated(f"a token of type {header.get('typ')!s:.20} is not an access token")
        return header

    def _check_claims(self, claims: dict[str, Any], now: float) -> float:
        """Raise Unauthenticated unless the token is for us and for now; gives the time of its end."""
        if claims.get("iss") != self._issuer:
            raise Unauthenticated(f"wrong issuer: the token is of {claims.get('iss')!s:.200}, not of {self._issuer}")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated(f"wrong audience: the token is for {audience!s:.200}, not for {self._audience}")
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise Unauthenticated("the token does not say when it expires")
        if now >= expires + self._leeway:
            raise Unauthenticated("the token is expired")
        if now < begins - self._leeway:
            raise Unauthenticated("the token is not valid yet")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject or not subject.isprintable():
            raise Unauthenticated("the token does not say whose it is: it has no sub")
        if len(subject.encode()) > MAX_SUBJECT:  # OpenID Connect Core, section 2; a longer one is no key of an index
            raise Unauthenticated(f"the token's sub has {len(subject.encode())} bytes; {MAX_SUBJECT} are allowed")
        return float(expires) + self._leeway


def _caller(claims: dict[str, Any], expires: float) -> Caller:
    """A service account is a client that asked for itself: its token names it as subject too (RFC 9068, section 2.2)."""
    subject, groups = claims["sub"], claims.get("groups")
    names = tuple(g for g in groups if isinstance(g, str)) if isinstance(groups, list) else ()
    roles = frozenset(role for role in PEOPLE if role.value in names)
    own = f"user:{subject}"
    if not names and claims.get("client_id") == subject:
        roles, own = frozenset({Role.SERVICE}), f"client:{subject}"
    name = claims.get("name") or claims.get("preferred_username")
    grantees = (own, *(f"group:{group}" for group in names))
    issued = claims.get("iat")
    at = float(issued) if isinstance(issued, int | float) else 0.0
    return Caller(subject, name if isinstance(name, str) else None, names, roles, expires, grantees, at)
