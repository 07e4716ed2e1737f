"""Logins of users at the bundled provider: their tokens, delays and rejections."""

import re
import subprocess
import sys

import httpx
import pytest
from slipway_identity.login import LoginFailed, log_in

from tests.identity.provider import SECRET, Provider, claims_of
from tests.support.waiting import SECONDS, wait_for


def by_password(provider: str, account: str = "ada", password: str = SECRET) -> httpx.Response:
    form = {
        "grant_type": "password",
        "client_id": "slipway",
        "username": account,
        "password": password,
        "scope": "openid groups",
    }
    return httpx.post(f"{provider}/oauth/token", data=form, trust_env=False, timeout=SECONDS)


@pytest.mark.slow
def test_a_login_gives_an_access_token_for_the_api_and_an_id_token_for_the_client(
    provider: str,
) -> None:
    tokens = log_in(provider, "ada", SECRET)
    access, identity = claims_of(tokens["access_token"]), claims_of(tokens["id_token"])
    assert claims_of(tokens["access_token"], 0)["typ"] == "at+jwt"
    assert (access["sub"], access["groups"], access["client_id"], access["aud"]) == (
        "ada",
        ["user"],
        "slipway",
        ["slipway-api"],
    )
    assert access["exp"] == access["iat"] + tokens["expires_in"]
    assert claims_of(tokens["id_token"], 0).get("typ") != "at+jwt"
    assert (identity["sub"], identity["aud"]) == ("ada", ["slipway"])
    assert {"at_hash", "nonce"} <= identity.keys()


def test_a_refresh_token_gives_an_access_token_of_the_same_kind(provider: str) -> None:
    given = log_in(provider, "ada", SECRET)["refresh_token"]
    form = {"grant_type": "refresh_token", "client_id": "slipway", "refresh_token": given}
    answer = httpx.post(f"{provider}/oauth/token", data=form, trust_env=False, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert claims_of(token, 0)["typ"] == "at+jwt"
    assert claims_of(token)["aud"] == ["slipway-api"]


@pytest.mark.slow
def test_two_tokens_of_the_same_moment_differ(served: Provider) -> None:
    served.bootstrap(SLIPWAY_IDENTITY_PUBLIC_PASSWORD_GRANT="true")
    try:
        answers = [by_password(served.url) for _ in range(3)]
    finally:
        served.bootstrap()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["access_token"] for answer in answers}) == 3


def test_the_public_client_has_no_password_grant(provider: str) -> None:
    answer = by_password(provider)
    assert answer.status_code == 400
    assert answer.json()["error"] == "unauthorized_client"


def test_a_shell_gets_a_token_by_account_and_password(provider: str) -> None:
    command = [sys.executable, "-m", "slipway_identity.login", provider, "ada"]
    done = subprocess.run(command, input=f"{SECRET}\n", capture_output=True, text=True, check=True)
    assert claims_of(done.stdout)["sub"] == "ada"
    refused = subprocess.run(
        command, input="a guess\n", capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "did not accept the login" in refused.stderr


def test_a_user_with_the_name_of_the_client_gets_no_token(provider: str) -> None:
    with pytest.raises(LoginFailed, match="the user has the name of the client"):
        log_in(provider, "slipway", SECRET)


def test_no_grant_gives_a_token_of_the_api(provider: str) -> None:
    for grant in ("client_credentials", "password", "authorization_code"):
        for secret in ("", SECRET):
            answer = httpx.post(
                f"{provider}/oauth/token",
                data={"grant_type": grant},
                auth=("slipway-api", secret),
                trust_env=False,
                timeout=SECONDS,
            )
            assert answer.status_code in (400, 401), grant


@pytest.mark.slow
def test_wrong_passwords_delay_the_next_attempt(served: Provider) -> None:
    def guess() -> bool:
        """Return True when the page asks to wait instead of checking the password."""
        with httpx.Client(
            base_url=served.url, follow_redirects=True, trust_env=False, timeout=SECONDS
        ) as web:
            page = web.get("/login")
            for field in ({"login": "grace"}, {"password": "a guess"}):
                csrf = re.search(r'name="csrf_token"[^>]*value="([^"]*)"', page.text)
                assert csrf
                page = web.post(page.url, data={"csrf_token": csrf[1], **field})
        return "Please wait" in page.text

    wait_for("a password that is not checked", guess)
    served.fail_to_log_in("grace", 8)  # four minutes
    with pytest.raises(LoginFailed):
        log_in(served.url, "grace", SECRET)
    assert log_in(served.url, "ada", SECRET)["access_token"], "another account is not locked out"


@pytest.mark.parametrize("path", ["/reset", "/reset-code/ada", "/invite", "/groups/user/invite"])
def test_pages_that_need_mail_return_404_without_a_mail_server(provider: str, path: str) -> None:
    answer = httpx.get(provider + path, trust_env=False, timeout=SECONDS)
    assert answer.status_code == 404
    assert "no mail server is configured" in answer.text
    assert httpx.post(
        provider + path, data={"login": "ada"}, trust_env=False, timeout=SECONDS
    ).is_client_error
