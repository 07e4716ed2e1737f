"""Accounts that are deleted directly at the bundled provider."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.gateway.environment import Client, Environment
from tests.gateway.provider import Person, Provider
from tests.gateway.test_users import context, refused
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def scim_client(home: Environment, provider: Provider) -> Iterator[Client]:
    """Yield a client of a gateway that erases missing accounts after a second."""
    with home.gateway(**provider.settings, users_seconds=0.5, deprovisioned_seconds=1) as client:
        yield client


def is_known(home: Environment, subject: str) -> bool:
    with psycopg.connect(home.database_url) as connection:
        return bool(
            connection.execute(
                "SELECT 1 FROM known_accounts WHERE subject = %s", [subject]
            ).fetchall()
        )


@pytest.mark.slow
def test_a_user_whose_account_is_deleted_at_the_provider_is_erased(
    scim_client: Client, home: Environment, provider: Provider, admin: str
) -> None:
    ivy = Person(provider, "ivy")
    ivy.register()
    assert context(scim_client, "PUT", "/v1/groups/user/members/ivy", admin).status_code == 204
    token = ivy.token()
    first = scim_client.infer("heart", token).headers["x-request-id"]
    feedback = {"label": 1, "comment": "I am Ivy, of 12 Long Street"}
    assert (
        context(
            scim_client, "POST", f"/v1/predictions/{first}/feedback", token, feedback
        ).status_code
        == 201
    )
    wait_for("the event", lambda: home.count("subject = 'user:ivy'") == 1)
    wait_for("a comparison", lambda: is_known(home, "user:ivy"))
    provider.delete_account("ivy")
    assert not ivy.may_sign_in(ivy.password)
    wait_for("the erasure", lambda: home.count("subject = 'user:ivy'") == 0)

    receipt = scim_client.get(f"/v1/predictions/{first}", admin).json()
    assert receipt["caller"].startswith("erased-")
    assert (receipt["feedback"]["subject"], receipt["feedback"]["comment"]) == (
        receipt["caller"],
        None,
    )
    assert refused(scim_client, token) == "the account no longer exists"
    assert audit_entries(scim_client, admin, "ivy") == [("user.deprovision", ":gateway")]


@pytest.mark.slow
def test_an_admin_can_erase_a_user_when_too_many_accounts_are_missing(
    scim_client: Client, home: Environment, admin: str
) -> None:
    with psycopg.connect(home.database_url) as connection:
        connection.execute(
            "INSERT INTO known_accounts VALUES ('user:zed', 'yesterday'), ('user:zoe', 'yesterday')"
        )
    assert context(scim_client, "DELETE", "/v1/users/unknown", admin).status_code == 404
    assert context(scim_client, "DELETE", "/v1/users/zed", admin).status_code == 204
    assert context(scim_client, "DELETE", "/v1/users/zed", admin).status_code == 404
    wait_for("the erasure of the other one", lambda: not is_known(home, "user:zoe"))
    assert audit_entries(scim_client, admin, "zed") == [("user.delete", "user:admin")]
    assert audit_entries(scim_client, admin, "zoe") == [("user.deprovision", ":gateway")]


def audit_entries(scim_client: Client, admin: str, user: str) -> list[tuple[str, str]]:
    """Return action and subject of the audit entries about a user."""
    entries = context(scim_client, "GET", "/v1/audit", admin).json()["entries"]
    return [
        (each["action"], each["subject"]) for each in entries if each["thing"] == f"users/{user}"
    ]
