"""Bring Canaille to the state that Slipway needs: schema, groups, first accounts, the OAuth client. Safe to repeat."""

import logging
from typing import Any

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from flask import Flask

from slipway_identity.settings import Account, IdentitySettings, ServiceAccount

logger = logging.getLogger(__name__)

CLIENT_CREDENTIALS = "client_credentials"


def bootstrap(settings: IdentitySettings) -> None:
    """Create what is missing. Canaille's own settings (database, keys) come from the file named by ``CANAILLE_CONFIG``."""
    app: Flask = create_app(init_backend=True)
    with app.app_context():
        for name, account in settings.accounts.items():
            ensure_user(name, account, settings.mail_domain)
        for name, description in settings.groups.items():
            members = [user for user, account in settings.accounts.items() if name in account.groups]
            ensure_group(name, description, members)
        ensure_client(settings)
        for client_id, service_account in settings.service_accounts.items():
            ensure_service_account(client_id, service_account, settings)


def ensure_user(name: str, account: Account, mail_domain: str) -> None:
    """Create the user. The password of an existing one is its owner's business and stays."""
    backend = Backend.instance
    if backend.get(models.User, user_name=name):
        return
    user = models.User(
        user_name=name,
        formatted_name=name.capitalize(),
        family_name=name.capitalize(),
        emails=[f"{name}@{mail_domain}"],
        password=account.password.get_secret_value(),
    )
    backend.save(user)
    logger.info("created user %s", name)


def ensure_group(name: str, description: str, members: list[str]) -> None:
    """Create the group, or add the members that it lacks."""
    backend = Backend.instance
    users = [backend.get(models.User, user_name=member) for member in members]
    group = backend.get(models.Group, display_name=name)
    if group is None:
        group = models.Group(display_name=name, description=description, members=users)
        logger.info("created group %s", name)
    else:
        group.members = [*group.members, *(user for user in users if user not in group.members)]
    if group.members:  # Canaille keeps no group without members
        backend.save(group)


def ensure_client(settings: IdentitySettings) -> None:
    """Register the client, or bring its registration up to date."""
    backend = Backend.instance
    wanted: dict[str, Any] = {
        "client_name": "Slipway",
        "contacts": [],
        "grant_types": ["authorization_code", "refresh_token", "password"],
        "response_types": ["code"],
        "redirect_uris": settings.redirect_uris,
        "scope": ["openid", "profile", "email", "groups"],
        "token_endpoint_auth_method": "none",
        "id_token_signed_response_alg": "RS256",
    }
    client = backend.get(models.Client, client_id=settings.client_id)
    if client is None:
        client = models.Client(client_id=settings.client_id, **wanted)
        logger.info("registered client %s", settings.client_id)
    backend.update(client, **wanted)
    backend.save(client)
    client.audience = [client]
    backend.save(client)


def ensure_service_account(name: str, account: ServiceAccount, settings: IdentitySettings) -> None:
    """Register a client that logs in as itself, or bring it up to date, its secret too. Its tokens are for Slipway."""
    backend = Backend.instance
    wanted: dict[str, Any] = {
        "client_name": name,
        "contacts": [],
        "client_secret": account.secret.get_secret_value(),
        "grant_types": [CLIENT_CREDENTIALS],
        "response_types": [],
        "redirect_uris": [],
        "scope": [],
        "token_endpoint_auth_method": "client_secret_basic",
        "id_token_signed_response_alg": "RS256",
        "audience": [backend.get(models.Client, client_id=settings.client_id)],
    }
    client = backend.get(models.Client, client_id=name)
    if client is None:
        client = models.Client(client_id=name)
        logger.info("registered service account %s", name)
    backend.update(client, **wanted)
    backend.save(client)
