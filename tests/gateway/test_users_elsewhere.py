"""Accounts that are deleted at the bundled provider, past the gateway."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.gateway.environment import Client, Environment
from tests.gateway.loopback import wait_for
from tests.gateway.provider import Person, Provider
from tests.gateway.test_users import context, refused


@pytest.fixture(scope="module")
def city(home: Environment, provider: Provider) -> Iterator[Client]:
    """A gateway with little patience."""
    with home.gateway(**provider.settings, users_seconds=0.5, deprovisioned_seconds=1) as client:
        yield client


def is_known(home: Environment, subject: str) -> bool:
    with psycopg.connect(home.database_url) as connection:
        return bool(
            connection.execute(
                "SELECT 1 FROM known_accounts WHERE subject = %s", [subject]
            ).fetchall()
        )


def test_whose_account_is_deleted_at_the_provider_leaves_no_name_here_either(
    city: Client, home: Environment, provider: Provider, admin: str
) -> None:
    ivy = Person(provider, "ivy")
    ivy.register()
    assert context(city, "PUT", "/v1/groups/user/members/ivy", admin).status_code == 204
    token = ivy.token()
    first = city.infer("heart", token).headers["x-request-id"]
    said = {"label": 1, "comment": "I am Ivy, of 12 Long Street"}
    assert (
        context(city, "POST", f"/v1/predictions/{first}/feedback", token, said).status_code == 201
    )
    wait_for("the event", lambda: home.count("subject = 'user:ivy'") == 1)
    wait_for("a look", lambda: is_known(home, "user:ivy"))
    provider.delete_account("ivy")
    assert not ivy.may_sign_in(ivy.password)
    wait_for("the erasure", lambda: home.count("subject = 'user:ivy'") == 0)

    receipt = city.get(f"/v1/predictions/{first}", admin).json()
    assert receipt["caller"].startswith("departed-")
    assert (receipt["feedback"]["subject"], receipt["feedback"]["comment"]) == (
        receipt["caller"],
        None,
    )
    assert refused(city, token) == "the account no longer exists"
    assert done_to(city, admin, "ivy") == [("user.vanish", ":gateway")]


def test_an_admin_erases_whose_account_is_missing_when_too_many_are(
    city: Client, home: Environment, admin: str
) -> None:
    with psycopg.connect(home.database_url) as connection:
        connection.execute(
            "INSERT INTO known_accounts VALUES ('user:zed', 'yesterday'), ('user:zoe', 'yesterday')"
        )
    assert context(city, "DELETE", "/v1/users/nobody", admin).status_code == 404
    assert context(city, "DELETE", "/v1/users/zed", admin).status_code == 204
    assert context(city, "DELETE", "/v1/users/zed", admin).status_code == 404
    wait_for("the erasure of one who is missing alone", lambda: not is_known(home, "user:zoe"))
    assert done_to(city, admin, "zed") == [("user.delete", "user:admin")]
    assert done_to(city, admin, "zoe") == [("user.vanish", ":gateway")]


def done_to(city: Client, admin: str, user: str) -> list[tuple[str, str]]:
    """The end of an account in the audit: what, and who did it."""
    entries = context(city, "GET", "/v1/audit", admin).json()["entries"]
    return [
        (each["action"], each["subject"]) for each in entries if each["thing"] == f"users/{user}"
    ]
