"""The bundled provider as a process, on SQLite and without mail."""

import base64
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from joserfc.jwk import RSAKey

from tests.support.processes import free_port, responds, running_process, wait_for_start

SECRET = "a secret of sixteen signs or more"
ACCOUNTS = ("ada", "grace", "slipway")
"""User names; one is the name of the public client."""
CONFIG = """
SECRET_KEY = "{secret}"
SERVER_NAME = "127.0.0.1:{port}"
TRUSTED_HOSTS = ["127.0.0.1"]
PREFERRED_URL_SCHEME = "http"

[CANAILLE]
DATABASE = "sql"

[CANAILLE_SQL]
DATABASE_URI = "sqlite:///{folder}/identity.sqlite"

[CANAILLE_OIDC]
ACTIVE_JWKS = [{{ {key} }}]
"""


class Provider:
    """A provider with users and the service account ``nightly``."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        key = RSAKey.generate_key(2048, private=True, auto_kid=True).as_dict(private=True)
        jwk = ", ".join(f"{name} = {json.dumps(value)}" for name, value in key.items())
        config = folder / "canaille.toml"
        config.write_text(CONFIG.format(secret=SECRET, port=port, folder=folder, key=jwk))
        self._folder = folder
        self._environment = {
            **os.environ,
            "CANAILLE_CONFIG": str(config),
            "CANAILLE__SMTP": "null",
            "SLIPWAY_IDENTITY_ACCOUNTS": json.dumps(
                {name: {"password": SECRET, "groups": ["user"]} for name in ACCOUNTS}
            ),
            "SLIPWAY_IDENTITY_SERVICE_ACCOUNTS": json.dumps({"nightly": {"secret": SECRET}}),
        }

    def __enter__(self) -> Self:
        for _ in range(2):  # it is safe to repeat
            self.bootstrap()
        command = [
            sys.executable,
            "-m",
            "hypercorn",
            "--bind",
            self.url.removeprefix("http://"),
            "--workers",
            "0",
        ]
        command += ["slipway_identity.application:create_app()"]
        log = self._folder / "log"
        with ExitStack() as stack:
            process = stack.enter_context(
                running_process(command, log, environment=self._environment, folder=self._folder)
            )
            wait_for_start(process, log, responds(f"{self.url}/.well-known/openid-configuration"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bootstrap(self, **settings: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "slipway_identity"],
            env={**self._environment, **settings},
            check=True,
        )

    def fail_to_log_in(self, account: str, times: int) -> None:
        """Record so many wrong passwords at the current time."""
        program = f"""
from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
with create_app().app_context():
    for _ in range({times}):
        Backend.instance.record_failed_attempt(Backend.instance.get(models.User,
        user_name="{account}"))
"""
        subprocess.run([sys.executable, "-c", program], env=self._environment, check=True)


def claims_of(token: str, part: int = 1) -> dict[str, Any]:
    """Return the unverified claims of a token."""
    encoded = token.split(".")[part]
    content: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    )
    return content
