"""A minimal OIDC issuer: discovery, JWKS, and signed tokens."""

import time
import warnings
from typing import Any
from urllib.parse import urlsplit

import orjson
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, KeyParameters, KeySet, OKPKey, RSAKey

from tests.support.asgi_server import AsgiServer, ServerContext

AUDIENCE = "slipway"


class Issuer(ServerContext):
    """An issuer that publishes its public keys and signs with the newest one.

    ``public`` is its public URL when it differs from the one at which it listens.
    """

    def __init__(self, public: str | None = None) -> None:
        self.public = public
        self.keys: list[Key] = []
        self.fetches = 0
        self.strange_keys: list[dict[str, Any]] = []
        """Keys that are published before the others."""
        self.unpublished: tuple[str, ...] = ()
        """Members that are removed from the published keys."""
        self.rotate()
        self.server = AsgiServer(self._answer)

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def name(self) -> str:
        return self.public or self.url

    def rotate(self, kind: str = "RSA") -> Key:
        """Create a new key; the former ones stay published."""
        name: KeyParameters = {"kid": f"key-{len(self.keys)}", "use": "sig"}
        key: Key
        if kind == "RSA":
            key = RSAKey.generate_key(2048, name)
        elif kind == "EC":
            key = ECKey.generate_key("P-256", name)
        else:
            key = OKPKey.generate_key("Ed25519", name)
        self.keys.append(key)
        return key

    def claims(self, subject: str = "ada", *groups: str, **changed: Any) -> dict[str, Any]:
        """Return the claims of a valid token; ``changed`` ones are replaced, or removed if None."""
        now = int(time.time())
        claims = {
            "iss": self.name,
            "aud": [AUDIENCE],
            "sub": subject,
            "iat": now,
            "exp": now + 3600,
        }
        claims |= {"groups": list(groups or ("user",)), "name": subject.title()}
        return {name: value for name, value in {**claims, **changed}.items() if value is not None}

    def token(self, subject: str = "ada", *groups: str, alg: str = "RS256", **changed: Any) -> str:
        return self.sign(self.claims(subject, *groups, **changed), alg=alg)

    def sign(
        self, claims: dict[str, Any], *, alg: str = "RS256", key: Key | None = None, **header: Any
    ) -> str:
        key = key or self.keys[-1]
        # EdDSA has a new name since RFC 9864.
        with warnings.catch_warnings(action="ignore", category=SecurityWarning):
            given = {"alg": alg, "kid": key.kid, "typ": "at+jwt", **header}
            return jwt.encode(
                {k: v for k, v in given.items() if v is not None}, claims, key, algorithms=[alg]
            )

    async def _answer(self, scope: Any, _receive: Any, send: Any) -> None:
        self.fetches += 1
        if self.public and dict(scope["headers"])[b"host"].decode() != urlsplit(self.public).netloc:
            # Canaille redirects requests for another host name the same way.
            await send(
                {
                    "type": "http.response.start",
                    "status": 302,
                    "headers": [(b"location", self.public.encode())],
                }
            )
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/.well-known/openid-configuration":
            content: Any = {"issuer": self.name, "jwks_uri": f"{self.name}/jwks"}
        else:
            keys = [
                {k: v for k, v in key.items() if k not in self.unpublished}
                for key in KeySet(self.keys).as_dict()["keys"]
            ]
            content = {"keys": [*self.strange_keys, *keys]}
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": orjson.dumps(content)})
