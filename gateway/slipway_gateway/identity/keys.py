"""The issuer's public keys: found by discovery, kept, and fetched anew when a token names one that
is not known.
"""

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
"""Requests that may wait for the keys at a time. A token with an unknown key makes its request
wait, before any login.
"""

Fetch = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""GET of a URL with headers, that gives its JSON; raises OSError when that fails."""

ALGORITHMS = {"RSA": ("RS256", "PS256"), "P-256": ("ES256",), "Ed25519": ("EdDSA", "Ed25519")}
"""By a key's type or curve. Asymmetric ones only: with HS256 anyone who knows the public key could
sign. RFC 9864 renamed EdDSA to Ed25519.
"""
MATERIAL = ("kty", "n", "e", "crv", "x", "y")
"""Members of a JWK that make up a public key."""
MAX_KEYS = 64
"""Keys that are read from a JWKS: a token without a key id is tried with each that fits."""


@dataclass(frozen=True)
class PublishedKey:
    """A public key of the issuer, and which signatures it may verify."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Key


class IssuerKeys:
    """OpenID Connect Discovery 1.0 and JWKS (RFC 7517) of one issuer. Keys stay in use while the
    issuer is away.

    ``base`` is where the issuer is reached from here: its own URL, or another that leads to the
    same server.
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
        # Issuers send those away who ask for them by another name.
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
        self.problem: str | None = "the identity provider has not been asked yet"
        """Why the last fetch failed; None after a good one."""
        self.token_endpoint: str | None = None
        """Where clients log in, as the discovery document says; None until it was read."""

    @property
    def known(self) -> bool:
        """Whether there are keys at all."""
        return self._keys is not None

    async def find(self, kid: str | None, algorithm: str) -> tuple[PublishedKey, ...]:
        """Return the keys that may have signed a token: those of its key id; without one, all that
        fit the algorithm.

        A key that is published without an id fits every id, if no other key has the token's.
        Raises Unauthenticated, or Unavailable when no key was ever fetched.
        """
        found = self._fitting(kid, algorithm)
        if not found:
            await self.renew(self._keys)
            found = self._fitting(kid, algorithm)
        if self._keys is None:
            raise Unavailable("the identity provider cannot be reached, so no token can be checked")
        if not found:
            raise Unauthenticated(
                "the token is signed by a key that the issuer does not publish: kid "
                f"{kid!s:.80}, algorithm {algorithm}"
            )
        return found

    async def renew(self, seen: tuple[PublishedKey, ...] | None) -> bool:
        """Fetch the keys unless they changed since ``seen``, at most once in a while; return
        whether they are others now.

        Raises Unavailable when too many wait already.
        """
        if self._waiting >= WAITING:
            raise Unavailable(
                "too many tokens wait for the keys of the identity provider", retry_after=1
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
        """All keys of the last good fetch; None before it."""
        return self._keys

    async def keep_fresh(self) -> None:
        """Fetch the keys now and then, for ever; more often while there are none."""
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
            reason = f"the identity provider's keys could not be fetched: {error}"
            if reason != self.problem:
                log.warning("%s", reason)
            self.problem = reason
        else:
            self.problem = None
        self._fetched = (
            time.monotonic()
        )  # at its end: those who waited for an issuer that hangs do not all wait once more

    async def _download(self) -> tuple[PublishedKey, ...]:
        document = await self._fetch(f"{self._base}/.well-known/openid-configuration", self._inside)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise ValueError(f"the discovery document is not of {self._issuer}")
        self.token_endpoint = document.get("token_endpoint")
        jwks = await self._fetch(*self.reachable(str(document.get("jwks_uri"))))
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError("the JWKS has no keys")  # noqa: TRY004  (the document is wrong, not our call)
        keys = tuple(
            key
            for each in jwks["keys"][:MAX_KEYS]
            if isinstance(each, dict) and (key := _imported(each))
        )
        if not keys:
            raise ValueError("the JWKS has no public key of a known kind for signatures")
        return keys

    def reachable(self, url: str) -> tuple[str, Mapping[str, str]]:
        """The issuer's URLs are as the world sees them; from here they begin with ``base``. Others
        are left alone.
        """
        issuer = self._issuer.rstrip("/") + "/"
        return (
            (f"{self._base}/{url.removeprefix(issuer)}", self._inside)
            if url.startswith(issuer)
            else (url, {})
        )


def _imported(jwk: DictKey) -> PublishedKey | None:
    """RFC 7517, section 5: a key that is not understood leaves the others in use; so does one that
    is not for signatures.
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
        log.warning("the issuer's key %s is not understood: %s", kid, error)
        return None
    return PublishedKey(kid if isinstance(kid, str) else None, algorithms, key)
