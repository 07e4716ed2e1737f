"""The ASGI application of the provider: Canaille with additions.

Resource servers can validate its access tokens (RFC 9068), only the gateway may use SCIM, and
password guessing is slowed down. Canaille itself makes the access tokens of users exactly like ID
tokens, and those of client credentials as random strings.
"""

import time
from secrets import token_hex
from typing import Any

from asgiref.wsgi import WsgiToAsgi
from authlib.integrations.flask_oauth2.authorization_server import create_token_expires_in_generator
from authlib.oauth2.rfc6749 import InvalidGrantError
from canaille.app import models
from canaille.backends import Backend
from canaille.hypercorn.app import create_app as create_canaille
from canaille.oidc.models import Token
from canaille.oidc.provider import (
    BearerTokenGenerator,
    OIDCGrantMixin,
    authorization,
    get_issuer,
    get_jwt_config,
)
from canaille.oidc.userinfo import UserInfo, generate_user_claims
from flask import abort, current_app, request
from joserfc import jwt

from slipway_identity.bodies import BoundedBodies
from slipway_identity.bootstrap import CLIENT_CREDENTIALS
from slipway_identity.settings import SCIM_CLIENT, BodySettings

SECONDS = 3600
"""Lifetime of a service account's token, which the client renews by itself."""
REFRESH_SECONDS = 8 * 3600
"""Lifetime of a refresh token; after it a user logs in again."""
MAIL_ENDPOINTS = frozenset(
    {
        "core.auth.password.forgotten",
        "core.auth.password.forgotten_code",
        "core.account.user_invitation",
        "core.groups.invite_to_group",
    }
)
"""Pages that send mail, for which Canaille returns 500 without a mail server."""


def create_app() -> Any:
    """Return the ASGI application; the file of ``CANAILLE_CONFIG`` has Canaille's own settings."""
    application = create_canaille(wrap_asgi=False)
    # Each wrong password doubles the time in which the account accepts no further one: 2 s,
    # 4 s … 10 minutes.
    application.config["CANAILLE"]["ENABLE_INTRUDER_LOCKOUT"] = True
    application.before_request(keep_scim_for_the_gateway)
    Token.is_refresh_token_active = is_refresh_token_active
    application.before_request(refuse_pages_that_need_mail)
    application.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token
    authorization.register_token_generator(
        "default", authorization.create_bearer_token_generator(application.config)
    )
    # A client can request a new token at any time: there is no refresh token.
    authorization.register_token_generator(
        CLIENT_CREDENTIALS, BearerTokenGenerator(access_token, expires_generator=lifetime)
    )
    OIDCGrantMixin.get_client_claims = id_token_claims
    return BoundedBodies(WsgiToAsgi(application), BodySettings())  # type: ignore[no-untyped-call]


def id_token_claims(_grant: Any, client: Any) -> dict[str, Any]:
    """Return issuer and audience of an ID token: the client that requested the login.

    Canaille's default is the audience of access tokens.
    """
    return {"iss": get_issuer(), "aud": [client.client_id]}


def refuse_pages_that_need_mail() -> tuple[str, int, dict[str, str]] | None:
    """Return 404 for a page that sends mail when no mail server is configured."""
    if request.endpoint not in MAIL_ENDPOINTS or current_app.config["CANAILLE"]["SMTP"]:
        return None
    reason = (
        "This page sends mail, and no mail server is configured. Ask an administrator for a new "
        "password or an account.\n"
    )
    return reason, 404, {"content-type": "text/plain; charset=utf-8"}


def keep_scim_for_the_gateway() -> None:
    """Reject every other token of a SCIM request with 403.

    Canaille lets each client with client credentials manage all users, and each user change by
    ``/scim/v2/Me`` what its pages forbid: a disabled user could enable themselves again, and a mail
    address would be accepted without verification.
    """
    if request.blueprint != "scim":
        return
    sent = request.headers.get("Authorization", "").partition(" ")[2].strip()
    token = Backend.instance.get(models.Token, access_token=sent) if sent else None
    if token is not None and (token.subject is not None or token.client.client_id != SCIM_CLIENT):
        abort(403, "SCIM is for the gateway")


def is_refresh_token_active(token: Token) -> bool:
    """Return True within the lifetime of a refresh token.

    Canaille ends it together with its access token, so that it could never be used.
    """
    return not token.is_revoked() and time.time() < token.get_issued_at() + REFRESH_SECONDS


def access_token(client: Any, grant_type: str, user: Any, scope: str | None) -> str:
    """Return a signed token of a user, or of a service account, which is its own subject.

    Source: RFC 9068, section 2.2. Raises InvalidGrantError for a user with the client's name: the
    token could be mistaken for the client's own (section 5).
    """
    config, now = get_jwt_config(client), int(time.time())
    if user is not None and user.user_name == client.client_id:
        raise InvalidGrantError("the user has the name of the client")
    about = (
        UserInfo(generate_user_claims(user)).filter(scope)
        if user is not None
        else {"sub": client.client_id}
    )
    claims = {
        **about,
        "iss": config["iss"],
        "client_id": client.client_id,
        "aud": [audience.client_id for audience in client.audience],
        "iat": now,
        "exp": now + lifetime(client, grant_type),
        "jti": token_hex(16),
    }
    header = {"typ": "at+jwt", "alg": config["alg"], "kid": config["kid"]}
    return jwt.encode(header, claims, config["key"], algorithms=[config["alg"]])


def lifetime(client: Any, grant_type: str) -> int:
    """Return the lifetime of an access token in seconds."""
    if grant_type == CLIENT_CREDENTIALS:
        return SECONDS
    seconds: int = create_token_expires_in_generator(
        current_app.config.get("OAUTH2_TOKEN_EXPIRES_IN")
    )(client, grant_type)
    return seconds
