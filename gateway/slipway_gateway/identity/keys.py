"""The issuer's public keys, cached and fetched again when a token has an unknown key id."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import DictKey, JWKRegistry, Key

from slipway_gateway.errors import Unauthenticated, Unavailable

log = logging.getLogger(__name__)

WAITING = 64
"""Maximum number of requests that wait for keys.

Any unauthenticated request with an unknown key id waits.
"""

Fetch = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""Function that returns the JSON of a URL, requested with headers. Raises OSError."""

ALGORITHMS = {"RSA": ("RS256", "PS256"), "P-256": ("ES256",), "Ed25519": ("EdDSA", "Ed25519")}
"""Algorithms by key type or curve.

All are asymmetric: with HS256, anyone with the public key could sign. RFC 9864 renamed EdDSA to
Ed25519.
"""
MATERIAL = ("kty", "n", "e", "crv", "x", "y")
"""Members of a JWK that form a public key."""
MAX_KEYS = 64
"""Maximum number of keys of a JWKS; a token without key id is verified with each of them."""


@dataclass(frozen=True)
class PublishedKey:
    """A public key of the issuer and the algorithms of the signatures that it verifies."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Key


class IssuerKeys:
    """The keys of one issuer, from OpenID Connect Discovery 1.0 and its JWKS (RFC 7517).

    Keys remain in use while the issuer is unavailable. ``base`` is the URL of the issuer inside the
    cluster, which may differ from its public URL.
    """

    def __init__(
        self,
        issuer: str,
        base: str,
        fetch: Fetch,
        *,
        refresh_seconds: float,
        refetch_seconds: float,
    ) -> None:
        self._issuer = issuer
        self._base = base.rstrip("/")
        public = urlsplit(issuer)
        # Issuers reject requests whose Host differs from their public name.
        self._inside = (
            {"host": public.netloc, "x-forwarded-proto": public.scheme} if base != issuer else {}
        )
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._refetch_seconds = refetch_seconds
        self._keys: tuple[PublishedKey, ...] | None = None
        self._fetched = -float("inf")
        self._lock = asyncio.Lock()
        self._waiting = 0
        self.problem: str | None = "the keys of the identity provider are not fetched yet"
        """Error of the last fetch; None after a successful one."""
        self.token_endpoint: str | None = None
        """Token endpoint of the discovery document; None before its first fetch."""

    @property
    def known(self) -> bool:
        """True after the first successful fetch."""
        return self._keys is not None

    async def find(self, kid: str | None, algorithm: str) -> tuple[PublishedKey, ...]:
        """Return the candidate keys of a token: those with its key id and algorithm.

        Without a key id these are all keys of the algorithm. A key that is published without an id
        is a candidate for any id that no other key has. Raises Unauthenticated, or Unavailable
        before the first successful fetch.
        """
        found = self._fitting(kid, algorithm)
        if not found:
            await self.renew(self._keys)
            found = self._fitting(kid, algorithm)
        if self._keys is None:
            raise Unavailable(
                "no token can be validated: the keys of the identity provider are not fetched yet; "
                "retry later"
            )
        if not found:
            raise Unauthenticated(
                "the token is signed by a key that the issuer does not publish: kid "
                f"{kid!s:.80}, algorithm {algorithm}"
            )
        return found

    async def renew(self, seen: tuple[PublishedKey, ...] | None) -> bool:
        """Fetch the keys unless they changed since ``seen`` or were fetched recently.

        Return True if the keys differ from ``seen``. Raises Unavailable if too many requests wait.
        """
        if self._waiting >= WAITING:
            raise Unavailable(
                "too many requests wait for the keys of the identity provider; retry later",
                retry_after=1,
            )
        self._waiting += 1
        try:
            async with self._lock:
                if self._keys is seen and time.monotonic() - self._fetched >= self._refetch_seconds:
                    await self._load()
                return self._keys is not seen
        finally:
            self._waiting -= 1

    @property
    def published(self) -> tuple[PublishedKey, ...] | None:
        """All keys of the last successful fetch; None before it."""
        return self._keys

    async def keep_fresh(self) -> None:
        """Fetch the keys periodically until cancelled, with a short period after an error."""
        while True:
            async with self._lock:
                await self._load()
            await asyncio.sleep(
                self._refresh_seconds if self.problem is None else min(self._refresh_seconds, 2.0)
            )

    def _fitting(self, kid: str | None, algorithm: str) -> tuple[PublishedKey, ...]:
        fitting = [key for key in self._keys or () if algorithm in key.algorithms]
        named = tuple(key for key in fitting if key.kid == kid)
        if kid is None:
            return tuple(fitting)
        return named or tuple(key for key in fitting if key.kid is None)

    async def _load(self) -> None:
        try:
            self._keys = await self._download()
        except (OSError, ValueError, JoseError) as error:
            reason = f"the keys of the identity provider cannot be fetched: {error}"
            if reason != self.problem:
                log.warning("%s", reason)
            self.problem = reason
        else:
            self.problem = None
        # The time of the end: requests that waited for a hanging issuer must not all wait again.
        self._fetched = time.monotonic()

    async def _download(self) -> tuple[PublishedKey, ...]:
        document = await self._fetch(f"{self._base}/.well-known/openid-configuration", self._inside)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise ValueError(
                f"the issuer of the discovery document is not {self._issuer}; "
                "correct SLIPWAY_OIDC_ISSUER or SLIPWAY_OIDC_DISCOVERY_URL"
            )
        self.token_endpoint = document.get("token_endpoint")
        jwks = await self._fetch(*self.reachable(str(document.get("jwks_uri"))))
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError("the JWKS has no keys")  # noqa: TRY004  (the document is invalid, not an argument)
        keys = tuple(
            key
            for each in jwks["keys"][:MAX_KEYS]
            if isinstance(each, dict) and (key := _imported(each))
        )
        if not keys:
            raise ValueError("the JWKS has no public key for a supported signature algorithm")
        return keys

    def reachable(self, url: str) -> tuple[str, Mapping[str, str]]:
        """Return the internal URL of a public URL of the issuer, and the headers that it needs.

        Other URLs are returned unchanged.
        """
        issuer = self._issuer.rstrip("/") + "/"
        return (
            (f"{self._base}/{url.removeprefix(issuer)}", self._inside)
            if url.startswith(issuer)
            else (url, {})
        )


def _imported(jwk: DictKey) -> PublishedKey | None:
    """Return the key of a JWK, or None if it is not supported or not for signatures.

    RFC 7517, section 5: an unsupported key does not affect the others.
    """
    algorithms = ALGORITHMS.get(str(jwk.get("kty")), ALGORITHMS.get(str(jwk.get("crv")), ()))
    if (stated := jwk.get("alg")) is not None:
        algorithms = tuple(
            each
            for each in algorithms
            if each.replace("EdDSA", "Ed25519") == str(stated).replace("EdDSA", "Ed25519")
        )
    operations = jwk.get("key_ops")
    verifies = operations is None or (isinstance(operations, list) and "verify" in operations)
    if not algorithms or not verifies or jwk.get("use") not in (None, "sig"):
        return None
    kid = jwk.get("kid")
    try:
        key = JWKRegistry.import_key({name: jwk[name] for name in MATERIAL if name in jwk})
    except (JoseError, ValueError, KeyError, TypeError) as error:
        log.warning("key %s of the issuer is ignored, it is invalid: %s", kid, error)
        return None
    return PublishedKey(kid if isinstance(kid, str) else None, algorithms, key)
