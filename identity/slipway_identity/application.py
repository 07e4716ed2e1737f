"""What hypercorn serves: Canaille, whose service accounts get tokens that a resource server can read.

Canaille's access tokens are JWTs, but for client credentials: those are random strings, which only Canaille itself understands.
"""

import time
from secrets import token_hex
from typing import Any

from canaille.hypercorn.app import create_app as create_canaille
from canaille.oidc.provider import BearerTokenGenerator, authorization, get_jwt_config
from joserfc import jwt

from slipway_identity.bootstrap import CLIENT_CREDENTIALS

SECONDS = 3600
"""A service account asks for the next token by itself, so that one lasts no longer than it must."""


def create_app() -> Any:
    """The ASGI application. Canaille's own settings come from the file named by ``CANAILLE_CONFIG``."""
    application = create_canaille()
    # A token for the same client is to be had at any time: there is no refresh token.
    tokens = BearerTokenGenerator(service_token, expires_generator=SECONDS)
    authorization.register_token_generator(CLIENT_CREDENTIALS, tokens)
    return application


def service_token(client: Any, grant_type: str, user: None, scope: str | None) -> str:  # noqa: ARG001  (Authlib's signature)
    """The client is its own subject: RFC 9068, section 2.2."""
    config, now = get_jwt_config(client), int(time.time())
    claims = {
        "iss": config["iss"],
        "sub": client.client_id,
        "client_id": client.client_id,
        "aud": [audience.client_id for audience in client.audience],
        "iat": now,
        "exp": now + SECONDS,
        "jti": token_hex(16),
    }
    header = {"typ": "at+jwt", "alg": config["alg"], "kid": config["kid"]}
    return jwt.encode(header, claims, config["key"], algorithms=[config["alg"]])
