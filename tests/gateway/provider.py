"""The bundled identity provider as a process, its mail server, and users of its pages."""

import base64
import email.policy
import hashlib
import json
import re
import secrets
import subprocess
import time
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from aiosmtpd.controller import Controller
from slipway_cluster.interface import Kind
from slipway_local.identity import CLIENT
from slipway_local.local_objects import LocalObjects
from slipway_local.settings import LocalSettings
from slipway_local.standin.container import Launch, PodFolder, launch
from slipway_local.standin.workload import PodSpec
from slipway_local.state import State

from tests.gateway.browser import Browser
from tests.support.processes import START_SECONDS, free_port, responds, wait_for_start
from tests.support.waiting import SECONDS, wait_for

HOME = "http://127.0.0.1:1/"
"""Redirect URI of a login; nothing listens there."""
AUDIENCE, SCIM_CLIENT = "slipway-api", "slipway-gateway"
SCOPE = "openid profile email groups"


class Mailbox:
    """A handler of the mail server that stores all messages."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802  (aiosmtpd's name)
        message = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"

    def link(self, to: str, part: str) -> str:
        """Wait for a mail to this address with a link that contains ``part``.

        Remove the newest such mail and return its link.
        """

        def look() -> str | None:
            for message in reversed(self.messages):
                body = message.get_body(("plain",))
                if (
                    message["To"] == to
                    and body
                    and (found := re.search(rf"https?://\S*{part}\S*", body.get_content()))
                ):
                    self.messages.remove(message)
                    return found[0]
            return None

        return wait_for(f"a mail to {to} with a link to {part}", look)


class Provider:
    """The provider as a process with its own database, registration and mail."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.mails = Mailbox()
        self.mail_server = Controller(self.mails, hostname="127.0.0.1", port=free_port())
        self._database_url = database_url
        self._process: subprocess.Popen[bytes] | None = None
        settings = LocalSettings(
            state=folder, smtp=f"smtp://127.0.0.1:{self.mail_server.port}", registration=True
        )
        objects = LocalObjects(settings, State(folder))
        self.identity = objects.identity
        self._setup, self._server = self._launches(objects)

    def _launches(self, objects: LocalObjects) -> tuple[Launch, Launch]:
        """Return the containers `bootstrap` and `identity` of the chart, with the own database."""
        every = {(each["kind"], each["metadata"]["name"]): each for each in objects.manifests()}
        template = every["Deployment", "slipway-identity"]["spec"]["template"]
        spec = PodSpec.model_validate(template["spec"])
        folder = PodFolder(self.folder / "pod", spec)
        folder.make()

        def data(kind: Kind, name: str) -> dict[str, str]:
            values: dict[str, str] = every[kind.name, name]["data"]
            if kind.name == "Secret":
                return {key: base64.b64decode(value).decode() for key, value in values.items()}
            url = self._database_url.replace("postgresql://", "postgresql+psycopg2://")
            return {
                key: re.sub("DATABASE_URI = .*", f'DATABASE_URI = "{url}"', value)
                for key, value in values.items()
            }

        folder.fill(data)
        ports = {8000: self.identity.port}
        pod = {"metadata": {"uid": "provider"}}
        bootstrap, server = (
            launch(each, objects.images()[each.image], folder, ports, pod, data)
            for each in (spec.init_containers[-1], spec.main)
        )
        bootstrap.env["SLIPWAY_IDENTITY_REDIRECT_URIS"] = json.dumps([HOME])
        return bootstrap, server

    def __enter__(self) -> Self:
        self.mail_server.start()
        # First the setup of a release without SCIM, then an upgrade.
        first = self._run(self._setup, SLIPWAY_IDENTITY_MAIL_DOMAIN="slipway.invalid")
        assert first.wait(START_SECONDS) == 0
        assert self._run(self._setup).wait(START_SECONDS) == 0
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.mail_server.stop()

    def _run(self, container: Launch, **further: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                container.argv,
                env={**container.env, **further},
                cwd=container.cwd,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> None:
        self._process = process = self._run(self._server)
        ready = responds(f"{self.url}/.well-known/openid-configuration")
        wait_for_start(process, self.folder / "log", ready)

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(SECONDS)

    def allow_registration(self, allowed: bool) -> None:
        """Change the option in the configuration, which the next start reads."""
        config = self.folder / "pod" / "volumes" / "config" / "canaille.toml"
        option = f"ENABLE_REGISTRATION = {json.dumps(allowed)}"
        config.write_text(re.sub("ENABLE_REGISTRATION = .*", option, config.read_text()))

    def login_as_client(self, client_id: str, secret: str) -> str:
        """Return a token by the client credentials grant."""
        form = {"grant_type": "client_credentials"}
        answer = httpx.post(
            f"{self.url}/oauth/token", data=form, auth=(client_id, secret), timeout=SECONDS
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def delete_account(self, name: str) -> None:
        """Delete an account at the provider, without the gateway."""
        token = self.login_as_client(SCIM_CLIENT, self.identity.secrets["scim-secret"])
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(
            base_url=f"{self.url}/scim/v2/", headers=headers, timeout=SECONDS
        ) as client:
            (key,) = [
                each["id"]
                for each in client.get("Users").json()["Resources"]
                if each["userName"] == name
            ]
            assert client.delete(f"Users/{key}").status_code == 204

    @property
    def url(self) -> str:
        return self.identity.issuer

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a gateway that trusts this provider."""
        return {
            "oidc_issuer": self.url,
            "oidc_discovery_url": None,
            "oidc_audience": AUDIENCE,
            "oidc_require_at_jwt": True,
            "scim_url": f"{self.url}/scim/v2",
            "scim_client_id": SCIM_CLIENT,
            "scim_client_secret": self.identity.secrets["scim-secret"],
        }

    def token(self, account: str) -> str:
        """Return a token of an initial account.

        It retries, because Canaille responds with 500 to a second login within the same second.
        """
        end = time.monotonic() + SECONDS
        while True:
            try:
                return self.identity.login(account)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 500 or time.monotonic() > end:
                    raise
                next_second()


def next_second() -> None:
    """Wait until the clock shows another second."""
    now = int(time.time())
    wait_for("the next second", lambda: int(time.time()) > now)


class Person:
    """A user with a browser, an address and a password."""

    def __init__(self, provider: Provider, name: str) -> None:
        self.provider = provider
        self.name = name
        self.address = f"{name}@people.example"
        self.password = secrets.token_urlsafe(12)

    def browser(self) -> Browser:
        return Browser(self.provider.url)

    def register(self) -> None:
        """Register by the link in a mail, which creates the account."""
        with self.browser() as browser:
            self.fill_in_registration(browser)
            assert browser.page.url.path == f"/profile/{self.name}", browser.page.text

    def fill_in_registration(self, browser: Browser, forged: dict[str, str] | None = None) -> None:
        """Send the registration form, with ``forged`` fields that the page does not offer."""
        browser.visit("/join")
        browser.submit(email=self.address)
        browser.visit(self.provider.mails.link(self.address, "/register/"))
        name, password = self.name, self.password
        browser.submit(
            forged=forged,
            user_name=name,
            family_name=name.title(),
            password1=password,
            password2=password,
        )

    def sign_in(self, browser: Browser) -> httpx.Response:
        """Submit the name, then the password."""
        browser.submit(login=self.name)
        return browser.submit(password=self.password)

    def token(self) -> str:
        """Return an access token."""
        return str(self.tokens()["access_token"])

    def tokens(self) -> dict[str, Any]:
        """Return the token response of a login by authorization code and PKCE (RFC 7636)."""
        next_second()  # Canaille makes equal tokens within a second and cannot store two
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": HOME,
            "scope": SCOPE,
            "state": "x",
        }
        asked |= {
            "nonce": secrets.token_urlsafe(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        with self.browser() as browser:
            browser.visit(f"/oauth/authorize?{urlencode(asked)}")
            page = self.sign_in(browser)
            if not page.is_redirect:  # the page of the first consent
                page = browser.submit(button=("answer", "accept"))
            assert page.is_redirect, page.text
            query = parse_qs(urlsplit(page.headers["location"]).query)
        assert query["state"] == ["x"]
        form = {"grant_type": "authorization_code", "client_id": CLIENT, "redirect_uri": HOME}
        form |= {"code": query["code"][0], "code_verifier": verifier}
        answer = httpx.post(f"{self.provider.url}/oauth/token", data=form, timeout=SECONDS)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def may_sign_in(self, password: str) -> bool:
        """Return True when a login at the provider's pages succeeds."""
        with self.browser() as browser:
            browser.visit("/login")
            browser.submit(login=self.name)
            browser.submit(password=password)
            return browser.page.url.path == f"/profile/{self.name}"

    def forget_password(self) -> None:
        """Reset the password by the link in a mail."""
        self.password = secrets.token_urlsafe(12)
        with self.browser() as browser:
            browser.visit("/reset")
            browser.submit(login=self.name)
            browser.visit(self.provider.mails.link(self.address, "/reset/"))
            browser.submit(password=self.password, confirmation=self.password)
            assert browser.page.url.path == f"/profile/{self.name}", browser.page.text

    def change_password(self) -> None:
        """Change the password at the profile page."""
        with self.browser() as browser:
            browser.visit("/login")
            self.sign_in(browser)
            self.password = secrets.token_urlsafe(12)
            browser.visit(f"/profile/{self.name}/auth/password")
            browser.submit(
                password1=self.password, password2=self.password, button=("action", "edit-password")
            )
            assert browser.page.status_code == 200, browser.page.text
