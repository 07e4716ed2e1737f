"""Idempotent setup of Canaille: schema, groups, first accounts, OAuth clients."""

import logging
from secrets import token_urlsafe
from typing import Any

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from flask import Flask
from pydantic import SecretStr

from slipway_identity.settings import (
    FORMER_MAIL_DOMAIN,
    SCIM_CLIENT,
    Account,
    IdentitySettings,
    ServiceAccount,
)

logger = logging.getLogger(__name__)

CLIENT_CREDENTIALS = "client_credentials"


def bootstrap(settings: IdentitySettings) -> None:
    """Create missing objects; the file of ``CANAILLE_CONFIG`` has Canaille's settings."""
    app: Flask = create_app(init_backend=True)
    with app.app_context():
        for name, account in settings.accounts.items():
            ensure_user(name, account, settings.mail_domain)
        for name, description in settings.groups.items():
            members = [
                user for user, account in settings.accounts.items() if name in account.groups
            ]
            ensure_group(name, description, members)
        ensure_api(settings)
        ensure_login_client(settings)
        ensure_scim_client(settings)
        for client_id, service_account in settings.service_accounts.items():
            ensure_service_account(client_id, service_account, settings)


def ensure_user(name: str, account: Account, mail_domain: str) -> None:
    """Create the user; an existing one keeps its password."""
    backend = Backend.instance
    address = f"{name}@{mail_domain}"
    if known := backend.get(models.User, user_name=name):
        if known.emails == [f"{name}@{FORMER_MAIL_DOMAIN}"]:
            known.emails = [address]
            backend.save(known)
        return
    user = models.User(
        user_name=name,
        formatted_name=name.capitalize(),
        family_name=name.capitalize(),
        emails=[address],
        password=account.password.get_secret_value(),
    )
    backend.save(user)
    logger.info("created user %s", name)


def ensure_group(name: str, description: str, members: list[str]) -> None:
    """Create the group, or add its missing members."""
    backend = Backend.instance
    users = [backend.get(models.User, user_name=member) for member in members]
    group = backend.get(models.Group, display_name=name)
    if group is None:
        group = models.Group(display_name=name, description=description, members=users)
        logger.info("created group %s", name)
    else:
        group.members = [*group.members, *(user for user in users if user not in group.members)]
    if group.members:  # Canaille stores no group without members
        backend.save(group)


def ensure_api(settings: IdentitySettings) -> None:
    """Register the audience of access tokens.

    In Canaille an audience must be a client; this one cannot get a token.
    """
    wanted = {**own_login("Slipway API", SecretStr(token_urlsafe())), "grant_types": []}
    ensure_client(settings.audience, wanted, audience=settings.audience)


def ensure_login_client(settings: IdentitySettings) -> None:
    """Register the client of users: public, so PKCE protects its logins."""
    wanted = {
        "client_name": "Slipway",
        "grant_types": [
            "authorization_code",
            "refresh_token",
            *(["password"] if settings.public_password_grant else []),
        ],
        "response_types": ["code"],
        "redirect_uris": [*settings.redirect_uris, settings.terminal_redirect_uri],
        # Canaille allows CORS requests for tokens from this origin.
        "client_uri": next(iter(settings.redirect_uris), None),
        "scope": ["openid", "profile", "email", "groups"],
        "token_endpoint_auth_method": "none",
    }
    ensure_client(settings.client_id, wanted, audience=settings.audience)


def ensure_service_account(name: str, account: ServiceAccount, settings: IdentitySettings) -> None:
    """Register a client with client credentials, whose tokens are for Slipway."""
    ensure_client(name, own_login(name, account.secret), audience=settings.audience)


def ensure_scim_client(settings: IdentitySettings) -> None:
    """Register the gateway's client, whose tokens are for this provider alone.

    Without a secret, the client of a former start is removed.
    """
    if settings.scim_secret is not None:
        ensure_client(
            SCIM_CLIENT, own_login("Slipway gateway", settings.scim_secret), audience=SCIM_CLIENT
        )
    elif former := Backend.instance.get(models.Client, client_id=SCIM_CLIENT):
        Backend.instance.delete(former)


def own_login(name: str, secret: SecretStr) -> dict[str, Any]:
    """Return the registration of a client with client credentials."""
    return {
        "client_name": name,
        "client_secret": secret.get_secret_value(),
        "grant_types": [CLIENT_CREDENTIALS],
        "response_types": [],
        "redirect_uris": [],
        "scope": [],
        "token_endpoint_auth_method": "client_secret_basic",
    }


def ensure_client(client_id: str, wanted: dict[str, Any], *, audience: str) -> None:
    """Register the client, or update its registration and its secret."""
    backend = Backend.instance
    client = backend.get(models.Client, client_id=client_id)
    if client is None:
        client = models.Client(client_id=client_id)
        logger.info("registered client %s", client_id)
    known = {"contacts": [], "id_token_signed_response_alg": "RS256", **wanted}
    backend.update(client, **known)
    backend.save(client)
    client.audience = [backend.get(models.Client, client_id=audience)]
    backend.save(client)
