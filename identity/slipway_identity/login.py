"""``python -m slipway_identity.login URL ACCOUNT``: log in as a user, without a browser.

Authorization code with PKCE (RFC 7636), through the provider's own pages. For tests, for ``helm
test`` and for shells: the public client has no password grant.
"""

import base64
import hashlib
import re
import sys
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

SCOPE = "openid profile email groups"
REDIRECT = "http://127.0.0.1:47115/"
"""Default of ``IdentitySettings.terminal_redirect_uri``."""
STEPS = 10
"""Limit of pages and redirects until the code; a login has five."""


class LoginFailed(Exception):
    """The provider did not accept the login; ``str()`` names the page."""


def log_in(
    url: str,
    account: str,
    password: str,
    *,
    host: str | None = None,
    client_id: str = "slipway",
    redirect_uri: str = REDIRECT,
) -> dict[str, Any]:
    """Return the response of the token endpoint: ``access_token``, ``refresh_token``, ``id_token``.

    ``url`` is the address of the provider, ``host`` its public name if that is another. Raises
    LoginFailed, and httpx.HTTPError when the provider cannot be reached.
    """
    verifier = token_urlsafe(48)
    challenge = (
        base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    )
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": SCOPE,
    }
    query |= {
        "nonce": token_urlsafe(),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    with httpx.Client(
        base_url=url, headers={"Host": host} if host else {}, timeout=30, trust_env=False
    ) as web:
        code = _code(web, query, {"login": account, "password": password, "answer": "accept"})
        form = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
        }
        answer = web.post("/oauth/token", data=form | {"code": code, "code_verifier": verifier})
    if answer.status_code != httpx.codes.OK:
        raise LoginFailed(f"{url}/oauth/token answered {answer.status_code}: {answer.text[:200]}")
    tokens: dict[str, Any] = answer.json()
    return tokens


def _code(web: httpx.Client, query: dict[str, str], fields: dict[str, str]) -> str:
    """Submit each field once, on the page that has it, until the provider redirects with a code."""
    page = web.get("/oauth/authorize", params=query)
    for _ in range(STEPS):
        if page.is_redirect:
            location = page.headers["location"]
            if location.startswith(query["redirect_uri"]):
                given = parse_qs(urlsplit(location).query)
                if "code" not in given:
                    raise LoginFailed(
                        "the provider answered "
                        f"{given.get('error_description', given.get('error'))}"
                    )
                return given["code"][0]
            page = web.get(urlsplit(location)._replace(scheme="", netloc="").geturl())
            continue
        name = next((each for each in fields if f'name="{each}"' in page.text), None)
        if name is None:
            break
        csrf = re.search(r'name="csrf_token"[^>]*value="([^"]*)"', page.text)
        page = web.post(
            page.request.url, data={"csrf_token": csrf[1] if csrf else "", name: fields.pop(name)}
        )
    raise LoginFailed(
        f"the provider did not accept the login: {page.request.url.path} answered "
        f"{page.status_code}"
    )


def main() -> int:
    """Print an access token for the password on standard input.

    Return 1 when the login fails, 2 for wrong usage.
    """
    if len(sys.argv) not in (3, 4):
        sys.stderr.write(
            "usage: python -m slipway_identity.login URL ACCOUNT [PUBLIC_HOST] <PASSWORD_FILE\n"
        )
        return 2
    try:
        answer = log_in(
            sys.argv[1],
            sys.argv[2],
            sys.stdin.readline().rstrip("\n"),
            host=(*sys.argv[3:], None)[0],
        )
    except (LoginFailed, httpx.HTTPError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{answer['access_token']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
