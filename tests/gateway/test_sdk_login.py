"""``slipway login``: authorization code with PKCE at the real provider, profiles and tokens."""

import json
import multiprocessing
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner
from slipway import Client, login, operations, profile
from slipway.cli import account
from slipway.errors import NoResult, ProviderUnavailable, SlipwayError, WrongParameter
from slipway.login import LoginFailed, ServiceAccount
from slipway.profile import LoginRequired, Profile

from tests.gateway.browser import Browser
from tests.gateway.environment import Environment
from tests.gateway.provider import Provider, next_second
from tests.support.asgi_server import AsgiServer, ServerContext
from tests.support.processes import free_port

HERE = Profile("here", "http://127.0.0.1:1", "http://127.0.0.1:2")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test its own profiles, and none of the variables of a platform."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("URL", "TOKEN", "PROFILE", "CLIENT_ID", "CLIENT_SECRET", "ISSUER"):
        monkeypatch.delenv(f"SLIPWAY_{name}", raising=False)
    return tmp_path


class Person:
    """A person who logs in at the page, and knows the address to which the browser came."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.address = ""

    def open(self, page: str) -> None:
        next_second()
        with Browser(self._provider.url) as browser:
            browser.visit(page.removeprefix(self._provider.url))
            browser.submit(login="user")
            reply = browser.submit(password=self._provider.identity.password("user"))
            if not reply.is_redirect:
                reply = browser.submit(button=("answer", "accept"))
            self.address = reply.headers["location"]


@pytest.fixture
def person(provider: Provider) -> Person:
    return Person(provider)


@pytest.mark.slow
def test_a_person_logs_in_and_the_token_is_renewed(
    provider: Provider, person: Person, new_environment: Callable[[], Environment], folders: Path
) -> None:
    environment = new_environment()
    environment.model("heart", ("3", 100))
    with environment.gateway(**provider.settings) as gateway:
        issuer, client_id = login.discovered(gateway.url, None, None)
        here = Profile("here", gateway.url, issuer, client_id)
        answer = login.log_in(here, person.open, lambda: person.address)
        profile.save(here, current=True)
        profile.store_tokens("here", answer)
        with Client() as client:
            assert client.call(operations.get_me).account == "user"
        stored = json.loads(profile.token_file().read_text())
        stored["here"] |= {"renew_at": 0.0}
        profile.token_file().write_text(json.dumps(stored))
        next_second()
        with Client(profile="here") as client:
            assert client.call(operations.get_me).account == "user"
    renewed = json.loads(profile.token_file().read_text())["here"]
    assert renewed["access_token"] != answer["access_token"]
    assert renewed["renew_at"] > time.time()
    for path in (folders / "state/slipway/tokens.json", folders / "config/slipway/config.toml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_browser_brings_the_code_to_the_loopback_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "PORT", free_port())
    address = f"http://127.0.0.1:{login.PORT}/"

    def browse(_page: str) -> None:
        assert httpx.get(f"{address}favicon.ico").status_code == 404
        assert httpx.get(f"{address}?code=forged&state=other").status_code == 404
        threading.Thread(target=httpx.get, args=(f"{address}?code=c&state=s",)).start()

    assert login._received("page", "s", browse) == {"code": "c", "state": "s"}


def test_an_address_of_another_login_is_refused(provider: Provider) -> None:
    here = Profile("here", "http://127.0.0.1:1", provider.url)
    with pytest.raises(NoResult, match="is not that of this login"):
        login.log_in(here, lambda _: None, lambda: "http://127.0.0.1:47115/?code=c&state=s")
    with pytest.raises(LoginFailed, match="answers 400"):
        login.refreshed(here, "forged")


def test_no_token_is_sent_to_an_address_that_others_can_read() -> None:
    with pytest.raises(WrongParameter, match="has no scheme"):
        login.check_address("slipway.example", "URL")
    for url in ("http://slipway.example", "ftp://127.0.0.1", "https://"):
        with pytest.raises(WrongParameter, match="is not https"):
            login.check_address(url, "URL")
    login.check_address("https://slipway.example", "URL")
    login.check_address("http://127.0.0.1:8080", "URL")


def test_a_service_account_has_a_token(provider: Provider) -> None:
    secret = json.loads(provider.identity.secrets["service-accounts"])["robot"]["secret"]
    token = ServiceAccount(provider.url, "robot", secret)
    assert token() == token()
    with pytest.raises(LoginFailed, match=r"answers 40[01]"):
        ServiceAccount(provider.url, "robot", "wrong secret of a robot")()


def test_the_token_of_a_profile_goes_to_its_platform_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(WrongParameter, match="SLIPWAY_URL: is not set"):
        Client()
    profile.save(HERE, current=False)
    assert Client().url == HERE.url  # the first profile is the current one
    monkeypatch.setenv("SLIPWAY_URL", "http://127.0.0.1:3")
    with pytest.raises(LoginRequired, match="SLIPWAY_TOKEN: is not set"):
        Client()
    monkeypatch.setenv("SLIPWAY_TOKEN", "t")
    assert Client().url == "http://127.0.0.1:3"
    assert Client(profile="here").url == HERE.url
    with pytest.raises(WrongParameter, match="profile 'there': is not one of here"):
        Client(profile="there")


def test_profiles_are_kept_and_a_changed_one_loses_its_tokens() -> None:
    profile.save(HERE, current=True)
    profile.save(Profile("other", "https://a.example", "https://b.example"), current=False)
    profile.store_tokens("here", {"access_token": "a"})
    profile.store_tokens("other", {"access_token": "b"})
    assert profile.profiles()[1] == "here"
    profile.save(Profile("here", "http://127.0.0.1:9", HERE.issuer), current=False)
    assert profile.stored("here") is None
    assert profile.stored("other") is not None
    for name, url in (("a b", "https://a"), ("a", "https://a\n[x]"), ("a]", "https://a")):
        with pytest.raises(WrongParameter):
            profile.save(Profile(name, url, "https://b"), current=True)
    profile.config_file().write_text("profile = 1")
    with pytest.raises(WrongParameter, match="is not valid"):
        profile.profiles()


def test_an_expired_login_names_the_command() -> None:
    profile.save(HERE, current=True)
    with pytest.raises(LoginRequired, match="run slipway login --profile here"):
        profile.access_token(HERE)
    profile.store_tokens("here", {"access_token": "a", "expires_in": 0})
    with pytest.raises(LoginRequired, match="the login has expired"):
        profile.access_token(HERE)


def store(name: str) -> None:
    profile.store_tokens(name, {"access_token": name})


def test_processes_write_tokens_one_after_another() -> None:
    names = [f"p{number}" for number in range(6)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        pool.map(store, names)
    assert all(profile.stored(name) for name in names)


class TokenEndpoint(ServerContext):
    """A provider whose token endpoint gives one response."""

    def __init__(self) -> None:
        self.server = AsgiServer(self._answer)
        self.issuer = ""
        self.response: tuple[int, bytes] = (200, b"")

    @property
    def url(self) -> str:
        return self.server.url

    async def _answer(self, scope: Any, _receive: Any, send: Any) -> None:
        endpoints = {
            f"{each}_endpoint": f"{self.url}/{each}" for each in ("token", "authorization")
        }
        status, body = 200, orjson.dumps({"issuer": self.issuer or self.url, **endpoints})
        if scope["path"] == "/token":
            status, body = self.response
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with TokenEndpoint() as running:
        yield running


def logged_in(endpoint: TokenEndpoint, *, expires_in: float) -> Profile:
    """Store a login whose early renewal is due."""
    here = Profile("here", "http://127.0.0.1:1", endpoint.url)
    profile.save(here, current=True)
    answer = {"access_token": "a", "refresh_token": "r", "expires_in": expires_in}
    profile.store_tokens("here", answer)
    stored = json.loads(profile.token_file().read_text())
    stored["here"]["renew_at"] = 0.0
    profile.token_file().write_text(json.dumps(stored))
    return here


PASSING = [
    (404, b'{"error": "invalid"}'),
    (429, b'{"error": "slow_down"}'),
    (302, b""),
    (200, b"<html>"),
    (400, b'{"error": "invalid_request"}'),
    (500, b'{"error": "invalid_grant"}'),
]


@pytest.mark.parametrize("response", PASSING)
def test_a_response_that_may_pass_keeps_the_login(
    endpoint: TokenEndpoint, response: tuple[int, bytes]
) -> None:
    here = logged_in(endpoint, expires_in=0)
    endpoint.response = response
    with pytest.raises(ProviderUnavailable, match="try again") as caught:
        profile.access_token(here)
    assert caught.value.status == 1
    with Client() as client, pytest.raises(ProviderUnavailable) as caught:
        client.call(operations.get_me)
    assert "gateway" not in str(caught.value)
    assert (profile.stored("here") or {})["refresh_token"] == "r"


def test_a_provider_with_another_name_or_away_keeps_the_login(endpoint: TokenEndpoint) -> None:
    here = logged_in(endpoint, expires_in=0)
    endpoint.issuer = "https://other.example"
    with pytest.raises(ProviderUnavailable, match="names another issuer"):
        profile.access_token(here)
    with pytest.raises(ProviderUnavailable, match="does not respond"):
        profile.access_token(Profile("here", here.url, "http://127.0.0.1:9"))
    assert (profile.stored("here") or {})["refresh_token"] == "r"


@pytest.mark.parametrize("code", sorted(login._REFUSALS))
def test_a_refused_renewal_ends_the_login(endpoint: TokenEndpoint, code: str) -> None:
    here = logged_in(endpoint, expires_in=0)
    endpoint.response = (400, orjson.dumps({"error": code}))
    with pytest.raises(LoginRequired, match="the login has expired"):
        profile.access_token(here)
    assert profile.stored("here") is None


def test_a_failed_early_renewal_returns_the_valid_token(endpoint: TokenEndpoint) -> None:
    here = logged_in(endpoint, expires_in=600)
    endpoint.response = (503, b"")
    assert profile.access_token(here) == "a"
    stored = profile.stored("here") or {}
    assert stored["refresh_token"] == "r"
    assert time.time() < stored["renew_at"] < time.time() + 60
    here = logged_in(endpoint, expires_in=600)
    endpoint.response = (400, b'{"error": "invalid_grant"}')
    assert profile.access_token(here) == "a"
    assert (profile.stored("here") or {})["refresh_token"] is None


def test_a_service_account_uses_its_token_until_it_expires(endpoint: TokenEndpoint) -> None:
    token = ServiceAccount(f"{endpoint.url}/", "robot", "s")
    endpoint.response = (200, b'{"access_token": "a", "expires_in": 600}')
    assert token() == "a"
    endpoint.response = (503, b"")
    token._renew_at = 0.0
    assert token() == "a"
    token._renew_at = token._ends_at = 0.0
    with pytest.raises(ProviderUnavailable, match="answers 503"):
        token()


def test_a_secret_goes_to_no_provider_that_another_gateway_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLIPWAY_CLIENT_ID", "robot")
    monkeypatch.setenv("SLIPWAY_CLIENT_SECRET", "s")
    with pytest.raises(WrongParameter, match="SLIPWAY_URL: is not set"):
        Client()
    monkeypatch.setenv("SLIPWAY_URL", "https://slipway.example/")
    with pytest.raises(WrongParameter, match="SLIPWAY_ISSUER: is not set, and https://other"):
        Client("https://other.example/")
    monkeypatch.setenv("SLIPWAY_URL", "slipway.example")
    with pytest.raises(WrongParameter, match=r"SLIPWAY_URL: 'slipway\.example' has no scheme"):
        Client()
    monkeypatch.setenv("SLIPWAY_ISSUER", "https://identity.example/")
    assert Client("https://other.example/").url == "https://other.example"


def test_a_profile_has_the_name_of_host_and_port() -> None:
    names = [profile.name_of(url) for url in ("https://a.example", "http://127.0.0.1:8080")]
    assert names == ["a-example", "127-0-0-1-8080"]
    long = Profile(profile.name_of(f"https://{'a' * 60}.example:444"), "https://a", "https://b")
    profile.check(long)
    assert len(long.name) <= 63
    done = CliRunner().invoke(
        account.login,
        ["http://127.0.0.1:9", "--profile", "a" * 64, "--issuer", "http://127.0.0.1:9"],
    )
    assert isinstance(done.exception, WrongParameter)
    assert "is not a name" in str(done.exception)


def test_a_system_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(SlipwayError, match="Windows has no locks of files"):
        profile.save(HERE, current=True)


def test_a_login_names_the_variable_that_is_used_in_its_place(
    provider: Provider, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_TOKEN", "t")
    monkeypatch.setattr(account, "_show", lambda _: person.open)
    monkeypatch.setattr(account, "_paste", lambda: person.address)
    arguments = ["http://127.0.0.1:9", "--issuer", provider.url, "--no-browser"]
    done = CliRunner().invoke(account.login, arguments)
    assert done.exit_code == 0, done.exception
    assert done.stdout == "logged in to http://127.0.0.1:9 (profile 127-0-0-1-9)\n"
    assert "SLIPWAY_TOKEN is set and is used in place of this login" in done.stderr
    assert "--profile 127-0-0-1-9" in done.stderr
    monkeypatch.setenv("SLIPWAY_PROFILE", "there")
    assert account._used_instead("here") == "SLIPWAY_PROFILE"
    assert account._used_instead("there") is None
