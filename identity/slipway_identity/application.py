"""What hypercorn serves: Canaille, whose service accounts get tokens that a resource server can read, and whose SCIM is for one.

Canaille's access tokens are JWTs, but for client credentials: those are random strings, which only Canaille itself understands.
"""

import time
from secrets import token_hex
from typing import Any

from asgiref.wsgi import WsgiToAsgi
from canaille.app import models
from canaille.backends import Backend
from canaille.hypercorn.app import create_app as create_canaille
from canaille.oidc.models import Token
from canaille.oidc.provider import BearerTokenGenerator, authorization, get_jwt_config
from flask import abort, request
from joserfc import jwt

from slipway_identity.bootstrap import CLIENT_CREDENTIALS
from slipway_identity.settings import SCIM_CLIENT

SECONDS = 3600
"""A service account asks for the next token by itself, so that one lasts no longer than it must."""
REFRESH_SECONDS = 8 * 3600
"""A person who does not renew their token for so long logs in again."""


def create_app() -> Any:
    """The ASGI application. Canaille's own settings come from the file named by ``CANAILLE_CONFIG``."""
    application = create_canaille(wrap_asgi=False)
    application.before_request(keep_scim_for_the_gateway)
    Token.is_refresh_token_active = is_refresh_token_active
    # A token for the same client is to be had at any time: there is no refresh token.
    tokens = BearerTokenGenerator(service_token, expires_generator=SECONDS)
    authorization.register_token_generator(CLIENT_CREDENTIALS, tokens)
    return WsgiToAsgi(application)  # type: ignore[no-untyped-call]


def keep_scim_for_the_gateway() -> None:
    """Answer 403 to every other token.

    Canaille lets each client that logs in as itself manage all users, and each user change by ``/scim/v2/Me`` what its pages do
    not let them: a disabled one could enable themselves again, and a mail address would be believed without a mail to it.
    """
    if request.blueprint != "scim":
        return
    sent = request.headers.get("Authorization", "").partition(" ")[2].strip()
    token = Backend.instance.get(models.Token, access_token=sent) if sent else None
    if token is not None and (token.subject is not None or token.client.client_id != SCIM_CLIENT):
        abort(403, "SCIM is for the gateway")


def is_refresh_token_active(token: Token) -> bool:
    """Canaille ends a refresh token together with its access token, and then nothing can be renewed."""
    return not token.is_revoked() and time.time() < token.get_issued_at() + REFRESH_SECONDS


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
