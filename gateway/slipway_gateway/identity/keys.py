"""The issuer's public keys: found by discovery, kept, and fetched anew when a token names one that is not known."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import DictKey, JWKRegistry, Key, KeySet

from slipway_gateway.errors import Unauthenticated, Unavailable

log = logging.getLogger(__name__)

WAITING = 64
"""Requests that may wait for the keys at a time. A token with an unknown key makes its request wait, before any login."""

Fetch = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""GET of a URL with headers, that gives its JSON; raises OSError when that fails."""


class IssuerKeys:
    """OpenID Connect Discovery 1.0 and JWKS (RFC 7517) of one issuer. Keys stay in use while the issuer is away.

    ``base`` is where the issuer is reached from here: its own URL, or another that leads to the same server.
    """

    def __init__(self, issuer: str, base: str, fetch: Fetch, *, refresh_seconds: float, refetch_seconds: float) -> None:
        self._issuer = issuer
        self._base = base.rstrip("/")
        public = urlsplit(issuer)
        # Issuers send those away who ask for them by another name.
        self._inside = {"host": public.netloc, "x-forwarded-proto": public.scheme} if base != issuer else {}
        self._fetch = fetch
        self._refresh_seconds = refresh_seconds
        self._refetch_seconds = refetch_seconds
        self._keys: KeySet | None = None
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

    async def find(self, kid: str | None, algorithm: str) -> KeySet:
        """Keys among which is the one of that id. Raises Unauthenticated, or Unavailable when no key was ever seen."""
        if not self._has(kid, algorithm):
            await self._refetch(kid, algorithm)
        if self._keys is None:
            raise Unavailable("the identity provider cannot be reached, so no token can be checked")
        if not self._has(kid, algorithm):
            raise Unauthenticated("the token is signed by a key that the issuer does not publish")
        return self._keys

    async def keep_fresh(self) -> None:
        """Fetch the keys now and then, for ever; more often while there are none."""
        while True:
            async with self._lock:
                await self._load()
            await asyncio.sleep(self._refresh_seconds if self.problem is None else min(self._refresh_seconds, 2.0))

    def _has(self, kid: str | None, algorithm: str) -> bool:
        if self._keys is None:
            return False
        try:
            self._keys.get_by_kid(kid, {"alg": algorithm, "use": "sig"})
        except JoseError:
            return False
        return True

    async def _refetch(self, kid: str | None, algorithm: str) -> None:
        """At most one fetch in a while, however many tokens with made-up key ids arrive."""
        if self._waiting >= WAITING:
            raise Unavailable("too many tokens wait for the keys of the identity provider", retry_after=1)
        self._waiting += 1
        try:
            async with self._lock:
                if not self._has(kid, algorithm) and time.monotonic() - self._fetched >= self._refetch_seconds:
                    await self._load()
        finally:
            self._waiting -= 1

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
        self._fetched = time.monotonic()  # at its end: those who waited for an issuer that hangs do not all wait once more

    async def _download(self) -> KeySet:
        document = await self._fetch(f"{self._base}/.well-known/openid-configuration", self._inside)
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise ValueError(f"the discovery document is not of {self._issuer}")
        self.token_endpoint = document.get("token_endpoint")
        jwks = await self._fetch(*self.reachable(str(document.get("jwks_uri"))))
        if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
            raise ValueError("the JWKS has no keys")  # noqa: TRY004  (the document is wrong, not our call)
        # A symmetric key has no business in a published set; it would make HS256 forgeries possible.
        public = [key for key in jwks["keys"] if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP")]
        known = [key for key in map(_imported, public) if key]
        if not known:
            raise ValueError("the JWKS has no public key of a known kind")
        return KeySet(known)

    def reachable(self, url: str) -> tuple[str, Mapping[str, str]]:
        """The issuer's URLs are as the world sees them; from here they begin with ``base``. Others are left alone."""
        issuer = self._issuer.rstrip("/") + "/"
        return (f"{self._base}/{url.removeprefix(issuer)}", self._inside) if url.startswith(issuer) else (url, {})


def _imported(key: DictKey) -> Key | None:
    """RFC 7517, section 5: a key that is not understood leaves the others in use."""
    try:
        return JWKRegistry.import_key(key)
    except (JoseError, ValueError, KeyError) as error:
        log.warning("the issuer's key %s is not understood: %s", key.get("kid"), error)
        return None
