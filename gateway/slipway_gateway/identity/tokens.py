"""Access tokens: JWTs of one OIDC issuer (RFC 9068, RFC 8725). Each refusal says which check
failed.
"""

import base64
import hashlib
import time
from collections.abc import Callable
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
"""RFC 9068, section 2.1: the header of a token that is an access token and nothing else."""
OTHER_PURPOSES = ("id", "refresh", "offline", "logout")
"""Of a token, as Keycloak writes it into the claim ``typ`` and Cognito into ``token_use``."""
MAX_TOKEN = 16 * 2**10
MAX_SUBJECT = 255
MAX_CACHED = 10_000
MAX_CACHED_BYTES = 8 * 2**20
"""Bytes of tokens whose callers are cached. A caller with many groups takes several times the bytes
of its token.
"""
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

    account: str
    """``sub`` of the token: a name that a person and a client may share."""
    name: str | None
    groups: tuple[str, ...]
    roles: frozenset[Role]
    expires: float
    """Unix time from which the token is not valid, leeway included."""
    grantees: tuple[str, ...]
    """To whom a grant must be given so that it is this caller's: the subject, then
    ``group:scientist``.
    """
    issued: float = 0.0
    """Unix time at which the issuer made the token."""
    claim: GroupClaim = field(default_factory=GroupClaim, compare=False)
    """Where the groups were read, and which roles they give."""
    withdrawn: tuple[str, ...] = ()
    """Groups of the token that the identity provider does not confirm."""

    @property
    def subject(self) -> str:
        """The owner of what the caller makes: ``user:ada`` or ``client:nightly``, see
        subjects.py.
        """
        return self.grantees[0]

    def within(self, groups: frozenset[str]) -> "Caller":
        """Return the caller with no other groups than these, and without the roles and grants that
        the others gave.
        """
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
    """What the tokens of an issuer must be like."""

    issuer: str
    audience: str
    leeway: int
    """Seconds that the issuer's clock may differ from ours."""
    require_at_jwt: bool = False
    """Whether the header's ``typ`` must be ``at+jwt``."""
    refused_claims: frozenset[str] = frozenset()
    """Claims that only ID tokens have; not looked for in a token of the type ``at+jwt``."""
    groups: GroupClaim = field(default_factory=GroupClaim)


class Tokens:
    """Checks tokens; one that was found good is not checked again for a while."""

    def __init__(self, rules: TokenRules, keys: IssuerKeys) -> None:
        self._rules = rules
        self._keys = keys
        self._types = (*ACCESS_TYPES, *(() if rules.require_at_jwt else ("jwt",)))
        self._registry = _Registry(algorithms=ALGORITHMS, strict_check_header=False)
        self._checked: dict[bytes, tuple[Caller, float, int]] = {}
        """By the token's digest: the caller, the Unix time of the next check, and the size of the
        token.
        """
        self._checked_bytes = 0

    async def caller(
        self, authorization: bytes | None, before_checking: Callable[[], None]
    ) -> Caller:
        """Who sent this Authorization header. Raises Unauthenticated, Unavailable.

        A token that is not known yet costs work; ``before_checking`` may raise to refuse it.
        """
        if authorization is None:
            raise Unauthenticated(
                "no token was sent; send Authorization: Bearer and an access token"
            )
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
        """Cache a caller; the oldest ones go when there are too many, or their tokens are too
        large.
        """
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
        kid, published = header.get("kid"), self._keys.published
        keys = await self._keys.find(kid, header["alg"])
        claims = self._verified(token, keys)
        # A key that was chosen by its algorithm alone may have been replaced meanwhile.
        if (
            claims is None
            and (kid is None or keys[0].kid is None)
            and await self._keys.renew(published)
        ):
            claims = self._verified(token, await self._keys.find(kid, header["alg"]))
        if claims is None:
            raise Unauthenticated("the signature does not fit the token")
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
                raise Unauthenticated(f"the token cannot be read: {error}") from None
        return None

    def _header(self, token: bytes) -> dict[str, Any]:
        """The token's header, read before anything is believed: it says which key to use."""
        if len(token) > MAX_TOKEN:
            raise Unauthenticated(
                f"the token is too long: it has {len(token)} bytes and at most {MAX_TOKEN} "
                "are read; "
                "let the issuer put fewer groups or other claims into it"
            )
        if token.count(b".") != 2:
            raise Unauthenticated("the token is not a signed JWT")
        encoded = token.partition(b".")[0]
        try:
            header = orjson.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
        except ValueError:
            raise Unauthenticated("the token's header cannot be read") from None
        if not isinstance(header, dict) or not isinstance(header.get("kid"), str | None):
            raise Unauthenticated("the token's header cannot be read")
        if header.get("alg") not in ALGORITHMS:
            raise Unauthenticated(
                f"algorithm {header.get('alg')!s:.20} is not allowed; use {', '.join(ALGORITHMS)}"
            )
        if "crit" in header:
            raise Unauthenticated(
                f"the token demands extensions that are not known here: crit {header['crit']!s:.80}"
            )
        if str(header.get("typ", "JWT")).lower() not in self._types:
            raise Unauthenticated(
                f"a token of type {header.get('typ', 'JWT')!s:.20} is not an access token; "
                f"its type must be {self._types[0]}"
            )
        return header

    def _check_purpose(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        """Raise Unauthenticated if the issuer made the token for something else than access (RFC
        9068, section 4).
        """
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
        """Raise Unauthenticated unless the token is for us and for now; gives the time of its
        end.
        """
        rules = self._rules
        if claims.get("iss") != rules.issuer:
            raise Unauthenticated(
                f"wrong issuer: the token is of {claims.get('iss')!s:.200}, not of {rules.issuer}"
            )
        audience = claims.get("aud")
        if rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise Unauthenticated(
                f"wrong audience: the token is for {audience!s:.200}, not for {rules.audience}"
            )
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise Unauthenticated("the token does not say when it expires")
        if now >= expires + rules.leeway:
            raise Unauthenticated("the token is expired")
        if now < begins - rules.leeway:
            raise Unauthenticated("the token is not valid yet")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject or not subject.isprintable():
            raise Unauthenticated("the token does not say whose it is: it has no sub")
        if (
            len(subject.encode()) > MAX_SUBJECT
        ):  # OpenID Connect Core, section 2; a longer one is no key of an index
            raise Unauthenticated(
                f"the token's sub has {len(subject.encode())} bytes; {MAX_SUBJECT} are allowed"
            )
        return float(expires) + rules.leeway


def _caller(claims: dict[str, Any], expires: float, groups: GroupClaim) -> Caller:
    """A service account is a client that asked for itself: its token names it as subject too (RFC
    9068, section 2.2).
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
