"""Log in to a platform: authorization code with PKCE on a loopback port, or client credentials.

Source: RFC 8252, RFC 7636, RFC 9728. The port is fixed, because providers compare redirect URIs
exactly.
"""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from slipway.errors import (
    NoResponse,
    NoResult,
    ProviderUnavailable,
    SlipwayError,
    WrongParameter,
)
from slipway.exchange import checked_url
from slipway.profile import EARLY, LIFETIME, RETRY_SECONDS, Profile

PORT = 47115
REDIRECT = f"http://127.0.0.1:{PORT}/"
SCOPE = "openid profile email groups"
SECONDS = 300.0
"""Time in which a user logs in."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REFUSALS = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "access_denied"})
"""Errors of RFC 6749 that end a login; others, and other responses, may pass."""
_PAGE = b"<!doctype html><title>Slipway</title><p>You can close this page and return to the shell."


class LoginFailed(SlipwayError):
    """The identity provider rejects a login or a refresh token."""

    status = 5


def discovered(
    url: str, issuer: str | None, client: str | None, *, remedy: str = "give --issuer"
) -> tuple[str, str]:
    """Return issuer and public client of a gateway from its metadata, where they are not given."""
    check_address(url, "URL")
    if issuer is None:
        place = f"{url.rstrip('/')}/.well-known/oauth-protected-resource"
        found = _json(place, NoResponse, remedy)
        issuers = found.get("authorization_servers")
        if not issuers:
            raise WrongParameter(f"{place}: names no identity provider; {remedy}")
        issuer = str(issuers[0])
        client = client or found.get("slipway_cli_client_id")
    check_address(issuer, "issuer")
    return issuer.rstrip("/"), client or "slipway"


def check_address(url: str, name: str) -> None:
    """Raise WrongParameter for an address to which no token may be sent: not https."""
    parts = urlsplit(checked_url(url, name))
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
        raise WrongParameter(
            f"{name}: {url!r} is not https; give an https address, or one of this machine"
        )


def log_in(
    profile: Profile, show: Callable[[str], object], paste: Callable[[], str] | None = None
) -> dict[str, Any]:
    """Return the response of the token endpoint for a user who logs in with a browser.

    ``show`` gets the address of the login page. The provider redirects the browser to this machine;
    with ``paste``, nothing listens there, and it returns the address that the browser could not
    open. Raises LoginFailed and NoResult.
    """
    endpoints = _provider(profile.issuer)
    verifier, state = token_urlsafe(48), token_urlsafe(24)
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": profile.client,
        "redirect_uri": REDIRECT,
        "scope": SCOPE,
        "state": state,
        "nonce": token_urlsafe(24),
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    page = f"{endpoints['authorization_endpoint']}?{urlencode(query)}"
    if paste is None:
        answer = _received(page, state, show)
    else:
        show(page)
        answer = _answer(urlsplit(paste().strip()).query, state) or {}
        if not answer:
            raise NoResult("the address is not that of this login; try again")
    if "code" not in answer:
        reason = answer.get("error_description") or answer.get("error")
        raise LoginFailed(f"the identity provider rejects the login: {reason}")
    form = {
        "grant_type": "authorization_code",
        "client_id": profile.client,
        "redirect_uri": REDIRECT,
        "code": answer["code"],
        "code_verifier": verifier,
    }
    return _token(str(endpoints["token_endpoint"]), form)


def _received(page: str, state: str, show: Callable[[str], object]) -> dict[str, str]:
    """Return the answer that the browser brings to the loopback port. Raises NoResult."""
    try:
        server = _Receiver(state)
    except OSError as error:
        raise SlipwayError(
            f"port {PORT} of 127.0.0.1 is not free: {error.strerror}; end the other login, or use "
            "--no-browser"
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            show(page)
            if not server.done.wait(SECONDS):
                raise NoResult(f"there was no login within {SECONDS:g} s; try again")
        finally:
            server.shutdown()
            thread.join()
    return server.answer


def _answer(query: str, state: str) -> dict[str, str] | None:
    """Return the provider's answer in a query, None when it is not that of this login."""
    given = {key: values[0] for key, values in parse_qs(query).items()}
    same = hmac.compare_digest(given.get("state", "").encode(), state.encode())
    return given if same else None


class _Receiver(ThreadingHTTPServer):
    """Receives the redirect of the browser; requests without the state are ignored."""

    daemon_threads = True

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", PORT), _Redirect)
        self.state = state
        self.answer: dict[str, str] = {}
        self.done = threading.Event()


class _Redirect(BaseHTTPRequestHandler):
    server: _Receiver
    timeout = 10

    def do_GET(self) -> None:
        """Answer the redirect with a page."""
        answer = _answer(urlsplit(self.path).query, self.server.state)
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(0 if answer is None else len(_PAGE)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if answer is not None:
            self.wfile.write(_PAGE)
            if not self.server.done.is_set():
                self.server.answer = answer
                self.server.done.set()

    def log_message(self, *_: Any) -> None:
        """Write no log: the address has the code."""


def refreshed(profile: Profile, token: str) -> dict[str, Any]:
    """Return new tokens for a refresh token. Raises LoginFailed and ProviderUnavailable."""
    form = {"grant_type": "refresh_token", "client_id": profile.client, "refresh_token": token}
    return _token(str(_provider(profile.issuer)["token_endpoint"]), form)


class ServiceAccount:
    """The access token of a service account, renewed early; a provider of ``Client``."""

    def __init__(self, issuer: str, client_id: str, secret: str) -> None:
        check_address(issuer, "SLIPWAY_ISSUER")
        self._issuer, self._account = issuer.rstrip("/"), (client_id, secret)
        self._lock = threading.Lock()
        self._token, self._renew_at, self._ends_at = "", 0.0, 0.0

    def __call__(self) -> str:
        with self._lock:
            now = time.monotonic()
            if now >= self._renew_at:
                try:
                    self._renew()
                except SlipwayError:
                    if now >= self._ends_at:
                        raise
                    self._renew_at = min(now + RETRY_SECONDS, self._ends_at)
            return self._token

    def _renew(self) -> None:
        endpoint = str(_provider(self._issuer)["token_endpoint"])
        answer = _token(endpoint, {"grant_type": "client_credentials"}, self._account)
        now, seconds = time.monotonic(), float(answer.get("expires_in") or LIFETIME)
        self._token = str(answer["access_token"])
        self._renew_at, self._ends_at = now + seconds * (1 - EARLY), now + seconds


def _provider(issuer: str) -> dict[str, Any]:
    """Return the metadata of the provider."""
    issuer = issuer.rstrip("/")
    place = f"{issuer}/.well-known/openid-configuration"
    found = _json(place, ProviderUnavailable, "check the issuer")
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise ProviderUnavailable(
            f"{issuer}: its metadata names another issuer, {found.get('issuer')!r}; "
            "check the issuer"
        )
    for name in ("authorization_endpoint", "token_endpoint"):
        check_address(str(found.get(name)), name)
    return found


def _json(url: str, failure: type[SlipwayError], remedy: str) -> dict[str, Any]:
    """Return the metadata at a URL. Raises ``failure``, and WrongParameter when there is none."""
    try:
        response = httpx2.get(url, timeout=30)
    except httpx2.TransportError as error:
        raise failure(f"{url} does not respond: {error}; check the address") from error
    if response.is_server_error or response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        raise failure(f"{url} answers {response.status_code}; try again")
    try:
        if response.is_success and isinstance(found := response.json(), dict):
            return found
    except ValueError:
        pass
    raise WrongParameter(f"{url}: has no metadata (status {response.status_code}); {remedy}")


def _token(
    url: str, form: dict[str, str], account: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Return a response with a token. Raises LoginFailed for a refusal, ProviderUnavailable."""
    try:
        response = httpx2.post(url, data=form, auth=account, timeout=30)
    except httpx2.TransportError as error:
        raise ProviderUnavailable(f"{url} does not respond: {error}; try again") from error
    code: Any = None
    try:
        answer = response.json()
        if response.is_success and answer["access_token"]:
            return dict(answer)
        code = answer.get("error")
        reason = answer.get("error_description") or code
    except (ValueError, KeyError, TypeError, AttributeError):
        reason = "the response has no token"
    text = f"{url} answers {response.status_code}: {reason}"
    if response.is_client_error and isinstance(code, str) and code in _REFUSALS:
        raise LoginFailed(text)
    raise ProviderUnavailable(f"{text}; try again")
