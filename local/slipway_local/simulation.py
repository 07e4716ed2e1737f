"""``python -m slipway_local simulate``: traffic of the service account ``simulator``."""

import json
import os
from collections.abc import Sequence
from typing import NoReturn

import httpx

from slipway_local.identity import SIMULATOR, Identity
from slipway_local.settings import LocalSettings
from slipway_local.state import State

GRANT = {"grantee": f"client:{SIMULATOR}", "models": "*", "policy": "default"}


def simulate(settings: LocalSettings, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``python -m slipway_jobs simulate ARGUMENTS``.

    Raises httpx.HTTPError when no local stack runs on the state folder.
    """
    state = State(settings.state)
    try:
        ports = {
            name: int(port)
            for name, port in json.loads((state.root / "ports.json").read_text()).items()
        }
    except FileNotFoundError:
        raise httpx.ConnectError(
            f"no local stack has run on {settings.state}; start one with make up"
        ) from None
    identity, gateway = (
        Identity(state, ports["identity"]),
        f"http://127.0.0.1:{ports['gateway']}",
    )
    grant(gateway, identity.login("admin"))
    variables = {
        "SLIPWAY_URL": gateway,
        "SLIPWAY_OIDC_ISSUER": identity.issuer,
        "SLIPWAY_CLIENT_ID": SIMULATOR,
        "SLIPWAY_CLIENT_SECRET": state.secret(f"service-account-{SIMULATOR}"),
    }
    python = str(settings.apps / "python")
    command = [python, "-m", "slipway_jobs", "simulate", *arguments]
    os.execve(python, command, os.environ | variables)  # noqa: S606 - no shell needed


def grant(gateway: str, admin: str) -> None:
    """Grant the simulator access to every model unless it has it."""
    with httpx.Client(
        base_url=gateway, headers={"Authorization": f"Bearer {admin}"}, timeout=30
    ) as client:
        known = client.get("/v1/grants").raise_for_status().json()["grants"]
        if not any(GRANT.items() <= each.items() for each in known):
            client.post("/v1/grants", json=GRANT).raise_for_status()
