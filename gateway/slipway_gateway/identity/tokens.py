"""Validation of access tokens: JWTs of one OIDC issuer (RFC 9068, RFC 8725)."""

import base64
import hashlib
import time
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry

from slipway_gateway.errors import Unauthenticated
from slipway_gateway.identity import keys as issuer_keys
from slipway_gateway.identity import subjects
from slipway_gateway.identity.groups import GroupClaim
from slipway_gateway.identity.keys import IssuerKeys, PublishedKey
from slipway_gateway.identity.roles import Role

ALGORITHMS = tuple(chain.from_iterable(issuer_keys.ALGORITHMS.values()))
ACCESS_TYPES = ("at+jwt", "application/at+jwt")
"""Values of the header ``typ`` that mark an access token (RFC 9068, section 2.1)."""
OTHER_PURPOSES = ("id", "refresh", "offline", "logout")
"""Values of the claim ``typ`` (Keycloak) or ``token_use`` (Cognito) that mark other tokens."""
MAX_TOKEN = 16 * 2**10
MAX_SUBJECT = 255
MAX_CACHED = 10_000
MAX_CACHED_BYTES = 8 * 2**20
"""Maximum total size in bytes of the tokens with cached callers.

A caller with many groups needs several times the size of its token.
"""
CACHED_SECONDS = 300
"""Seconds until a cached token is validated again, so that the removal of a key takes effect."""


class _Registry(JWSRegistry):
    """A registry that does not warn about the deprecated name EdDSA, which most issuers use."""

    def get_alg(self, name: str) -> Any:
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError(f"algorithm {name} is not allowed")
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request, from the claims of the token."""

    account: str
    """``sub`` of the token; a user and a client may have the same."""
    name: str | None
    groups: tuple[str, ...]
    roles: frozenset[Role]
    expires: float
    """Unix time at which the token expires, including the leeway."""
    grantees: tuple[str, ...]
    """Grantees whose grants apply to the caller: the subject, then its groups (``group:admin``)."""
    issued: float = 0.0
    """Unix time at which the issuer created the token."""
    claim: GroupClaim = field(default_factory=GroupClaim, compare=False)
    """Claim of the groups and their mapping to roles."""
    withdrawn: tuple[str, ...] = ()
    """Groups of the token that the identity provider does not confirm."""

    @property
    def subject(self) -> str:
        """Owner of the caller's resources: ``user:ada`` or ``client:nightly``, see subjects.py."""
        return self.grantees[0]

    def within(self, groups: frozenset[str]) -> "Caller":
        """Return the caller restricted to these groups, with the roles and grantees of them."""
        withdrawn = tuple(group for group in self.groups if group not in groups)
        if not withdrawn:
            return self
        kept = tuple(group for group in self.groups if group in groups)
        names = {f"group:{group}" for group in withdrawn}
        return replace(
            self,
            groups=kept,
            roles=self.claim.roles_of(kept),
            grantees=tuple(each for each in self.grantees if each not in names),
            withdrawn=withdrawn,
        )


@dataclass(frozen=True)
class TokenRules:
    """The requirements of a valid token."""

    issuer: str
    audience: str
    leeway: int
    """Allowed clock difference to the issuer in seconds."""
    require_at_jwt: bool = False
    """True: the header ``typ`` must be ``at+jwt``."""
    refused_claims: frozenset[str] = frozenset()
    """Claims that mark an ID token; not checked for the type ``at+jwt``."""
    groups: GroupClaim = field(default_factory=GroupClaim)


class Tokens:
    """Validates tokens and caches the callers of valid tokens."""

    def __init__(self, rules: TokenRules, keys: IssuerKeys) -> None:
        self._rules = rules
        self._keys = keys
        self._types = (*ACCESS_TYPES, *(() if rules.require_at_jwt else ("jwt",)))
        self._registry = _Registry(algorithms=ALGORITHMS, strict_check_header=False)
        self._checked: dict[bytes, tuple[Caller, float, int]] = {}
        """Header digest to caller, Unix time of the next validation, and size of the token."""
        self._checked_bytes = 0

    def cached(self, authorization: bytes) -> Caller | None:
        """Return the caller of an Authorization header that was validated before; else None."""
        found = self._checked.get(hashlib.sha256(authorization).digest())
        return found[0] if found and time.time() < found[1] else None

    async def caller(self, authorization: bytes) -> Caller:
        """Validate an Authorization header and return its caller.

        Raises Unauthenticated, Unavailable.
        """
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated(
                "the Authorization header is invalid; send Bearer and an access token"
            )
        caller = await self._check(token)
        key, until = hashlib.sha256(authorization).digest(), time.time() + CACHED_SECONDS
        self._add(key, caller, min(caller.expires, until), len(token))
        return caller

    def _add(self, key: bytes, caller: Caller, until: float, size: int) -> None:
        """Cache a caller and evict the oldest ones above the limits of number and size."""
        self._evict(key)
        self._checked[key] = (caller, until, size)
        self._checked_bytes += size
        while len(self._checked) > MAX_CACHED or self._checked_bytes > MAX_CACHED_BYTES:
            self._evict(next(iter(self._checked)))

    def _evict(self, key: bytes) -> None:
        if (found := self._checked.pop(key, None)) is not None:
            self._checked_bytes -= found[2]

    async def _check(self, token: bytes) -> Caller:
        header = self._header(token)
        kid, published = header.get("kid"), self._keys.published
        keys = await self._keys.find(kid, header["alg"])
        claims = self._verified(token, keys)
        # A key without id may have been replaced since the last fetch.
        if (
            claims is None
            and (kid is None or keys[0].kid is None)
            and await self._keys.renew(published)
        ):
            claims = self._verified(token, await self._keys.find(kid, header["alg"]))
        if claims is None:
            raise Unauthenticated("the signature of the token is invalid")
        self._check_purpose(header, claims)
        expires = self._check_claims(claims, time.time())
        return _caller(claims, expires, self._rules.groups)

    def _verified(self, token: bytes, keys: tuple[PublishedKey, ...]) -> dict[str, Any] | None:
        """Return the claims; None if no key made the signature. Raises Unauthenticated."""
        for each in keys:
            try:
                return jwt.decode(
                    token, each.key, algorithms=ALGORITHMS, registry=self._registry
                ).claims
            except BadSignatureError:
                continue
            except (JoseError, ValueError) as error:
                raise Unauthenticated(f"the token is invalid: {error}") from None
        return None

    def _header(self, token: bytes) -> dict[str, Any]:
        """Return the unverified header of a token, which identifies its key.

        Raises Unauthenticated.
        """
        if len(token) > MAX_TOKEN:
            raise Unauthenticated(
                f"the token has {len(token)} bytes, and at most {MAX_TOKEN} are allowed; "
                "configure the issuer to include fewer groups or other claims"
            )
        if token.count(b".") != 2:
            raise Unauthenticated("the token is not a signed JWT")
        encoded = token.partition(b".")[0]
        try:
            header = orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
        except ValueError:
            raise Unauthenticated("the header of the token is invalid") from None
        if not isinstance(header, dict) or not isinstance(header.get("kid"), str | None):
            raise Unauthenticated("the header of the token is invalid")
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated(
                f"algorithm {header.get('alg')!s:.20} is not allowed; use {', '.join(ALGORITHMS)}"
            )
        if "crit" in header:
            raise Unauthenticated(
                f"the token requires unsupported extensions: crit {header['crit']!s:.80}"
            )
        if str(header.get("typ", "JWT")).lower() not in self._types:
            raise Unauthenticated(
                f"a token of type {header.get('typ', 'JWT')!s:.20} is not an access token; "
                f"its type must be {self._types[0]}"
            )
        return header

    def _check_purpose(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        """Raise Unauthenticated if the token is not an access token (RFC 9068, section 4)."""
        if str(header.get("typ")).lower() in ACCESS_TYPES:
            return
        purpose = str(claims.get("token_use") or claims.get("typ"))
        if purpose.lower() in OTHER_PURPOSES:
            raise Unauthenticated(f"the token is of type {purpose}; send the access token")
        if found := sorted(self._rules.refused_claims & claims.keys()):
            raise Unauthenticated(
                f"the token is an ID token: it has the claim {found[0]}; send the access token"
            )

    def _check_claims(self, claims: dict[str, Any], now: float) -> float:
        """Return the Unix time at which a token expires, including the leeway.

        Raises Unauthenticated for a wrong issuer or audience, outside the token's validity, and
        without a valid subject.
        """
        rules = self._rules
        if claims.get("iss") != rules.issuer:
            raise Unauthenticated(
                f"wrong issuer: the token is from {claims.get('iss')!s:.200}, not {rules.issuer}"
            )
        audience = claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated(
                f"wrong audience: the token is for {audience!s:.200}, not for {rules.audience}"
            )
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise Unauthenticated("the token has no valid expiry: exp and nbf must be numbers")
        if now >= expires + rules.leeway:
            raise Unauthenticated("the token is expired; request a new one")
        if now < begins - rules.leeway:
            raise Unauthenticated("the token is not valid yet")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject or not subject.isprintable():
            raise Unauthenticated("the token has no valid sub: it must be printable text")
        # OpenID Connect Core, section 2; a longer subject does not fit into an index.
        if len(subject.encode()) > MAX_SUBJECT:
            raise Unauthenticated(
                f"the token's sub has {len(subject.encode())} bytes; {MAX_SUBJECT} are allowed"
            )
        return float(expires) + rules.leeway


def _caller(claims: dict[str, Any], expires: float, groups: GroupClaim) -> Caller:
    """Return the caller of valid claims.

    The token of a service account has the client as subject (RFC 9068, section 2.2).
    """
    subject, names = claims["sub"], groups.groups_of(claims)
    roles = groups.roles_of(names)
    own = subjects.user(subject)
    if not names and claims.get("client_id") == subject:
        roles, own = frozenset({Role.SERVICE}), subjects.client(subject)
    name = claims.get("name") or claims.get("preferred_username")
    grantees = (own, *(f"group:{group}" for group in names))
    issued = claims.get("iat")
    at = float(issued) if isinstance(issued, int | float) else 0.0
    return Caller(
        subject,
        name if isinstance(name, str) else None,
        names,
        roles,
        expires,
        grantees,
        at,
        groups,
    )
