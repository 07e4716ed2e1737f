"""Users: the lifecycle of an account at the bundled provider and its effects at the gateway."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from slipway_gateway.access.rules import Rule
from slipway_gateway.eventlog import erasure
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import audit, deprovisioned, metadata, usage
from slipway_local.identity import CLIENT

from tests.gateway.access import RULES
from tests.gateway.environment import Client, Environment
from tests.gateway.provider import SCIM_CLIENT, Person, Provider, next_second
from tests.identity.provider import claims_of
from tests.support.waiting import SECONDS, wait_for

MANAGE_USERS = [rule for rule in RULES if rule.name == "manage-users"]
PEOPLE = {"admin", "scientist", "user"}
"""The initial accounts, each in the group of the same name."""


@pytest.fixture(scope="module")
def scim_client(home: Environment, provider: Provider) -> Iterator[Client]:
    """Yield a client of a gateway that uses the provider and polls its accounts often."""
    with home.gateway(**provider.settings, users_seconds=0.5) as client:
        yield client


def context(
    client: Client, method: str, path: str, token: str, content: Any = None
) -> httpx.Response:
    return client.http.request(
        method, path, json=content, headers={"authorization": f"Bearer {token}"}
    )


def refused(client: Client, token: str) -> str | None:
    """Return the reason for which a token is rejected; None for an accepted one."""
    answer = client.get("/v1/me", token)
    return str(answer.json()["detail"]) if answer.status_code == 401 else None


@pytest.mark.slow
def test_an_account_can_be_registered_used_changed_and_deleted(
    scim_client: Client, provider: Provider, admin: str
) -> None:
    ada = Person(provider, "ada")
    ada.register()
    token = ada.token()
    me = scim_client.get("/v1/me", token).json()
    assert (me["subject"], me["account"], me["name"], me["groups"], me["roles"]) == (
        "user:ada",
        "ada",
        "Ada",
        [],
        [],
    )
    assert scim_client.infer("heart", token).status_code == 403  # a new account has no role
    assert context(scim_client, "PUT", "/v1/groups/user/members/ada", admin).status_code == 204
    token = ada.token()
    assert scim_client.infer("heart", token).status_code == 200

    for renew in (ada.forget_password, ada.change_password):
        former = ada.password
        renew()
        assert not ada.may_sign_in(former)
        wait_for("the end of the lockout", lambda: ada.may_sign_in(ada.password))

    assert context(scim_client, "DELETE", "/v1/me", token).status_code == 204
    assert refused(scim_client, token) == "the account no longer exists"
    assert not ada.may_sign_in(ada.password)
    assert context(scim_client, "GET", "/v1/users/ada", admin).status_code == 404


def test_registration_cannot_set_groups_or_another_address(
    provider: Provider, scim_client: Client, admin: str
) -> None:
    (group,) = [each for each in scim(provider, "Groups") if each["displayName"] == "admin"]
    mal, mel = Person(provider, "mal"), Person(provider, "mel")
    with mal.browser() as browser:
        mal.fill_in_registration(browser, {"groups": group["id"], "lock_date": ""})
    assert context(scim_client, "GET", "/v1/users/mal", admin).json()["groups"] == []
    with mel.browser() as browser:
        mel.fill_in_registration(browser, {"emails-0": "president@people.example"})
        assert browser.page.url.path.startswith("/register/")
    assert context(scim_client, "GET", "/v1/users/mel", admin).status_code == 404


def scim(provider: Provider, kind: str) -> list[dict[str, Any]]:
    token = provider.login_as_client(SCIM_CLIENT, provider.identity.secrets["scim-secret"])
    answer = httpx.get(
        f"{provider.url}/scim/v2/{kind}",
        headers={"authorization": f"Bearer {token}"},
        timeout=SECONDS,
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Resources"])


def test_a_disabled_user_is_rejected_until_enabled_again(
    scim_client: Client, home: Environment, provider: Provider, admin: str
) -> None:
    token = provider.token("user")
    # The other replica uses an internal URL of the provider.
    inside = {
        **provider.settings,
        "oidc_discovery_url": provider.url.replace("127.0.0.1", "localhost"),
    }
    with home.gateway(**inside, users_seconds=0.5, spool=home.folder / "spool-2") as other:
        assert [refused(scim_client, token), refused(other, token)] == [None, None]
        answer = context(scim_client, "PATCH", "/v1/users/user", admin, {"active": False})
        assert (answer.status_code, answer.json()["active"]) == (200, False)
        assert refused(scim_client, token) == "the account is disabled"  # immediately here
        wait_for(
            "the other replica's poll", lambda: refused(other, token) == "the account is disabled"
        )
        with pytest.raises(httpx.HTTPStatusError):
            provider.identity.login("user")
        assert (
            context(scim_client, "PATCH", "/v1/users/user", admin, {"active": True}).json()[
                "active"
            ]
            is True
        )
        wait_for("the other replica's poll", lambda: refused(other, token) is None)
    entries = scim_client.get("/v1/audit?limit=2", admin).json()["entries"]
    assert [(each["action"], each["thing"], each["subject"]) for each in entries] == [
        ("user.enable", "users/user", "user:admin"),
        ("user.disable", "users/user", "user:admin"),
    ]


def test_by_default_a_disabled_user_is_rejected_within_five_minutes(
    home: Environment,
) -> None:
    assert home.settings().users_seconds <= 240
    with pytest.raises(ValueError, match="users_seconds"):
        home.settings(users_seconds=300)


@pytest.mark.slow
def test_users_and_groups_can_be_listed_and_members_changed(
    scim_client: Client, admin: str
) -> None:
    shown = context(scim_client, "GET", "/v1/users", admin).json()["users"]
    known = {each["name"]: each for each in shown}
    assert known.keys() >= PEOPLE
    one = context(scim_client, "GET", "/v1/users/scientist", admin).json()
    assert one == known["scientist"]
    assert (one["emails"], one["groups"], one["active"]) == (
        ["scientist@slipway.example"],
        ["scientist"],
        True,
    )

    def members() -> dict[str, list[str]]:
        return {
            each["name"]: each["members"]
            for each in context(scim_client, "GET", "/v1/groups", admin).json()["groups"]
        }

    path = "/v1/groups/scientist/members"
    for method, user, left in [
        ("PUT", "user", ["scientist", "user"]),
        ("PUT", "user", ["scientist", "user"]),
        ("DELETE", "user", ["scientist"]),
        ("DELETE", "scientist", []),  # the provider may remove an empty group
        ("PUT", "scientist", ["scientist"]),
    ]:
        assert context(scim_client, method, f"{path}/{user}", admin).status_code == 204
        assert members().get("scientist", []) == left
    assert context(scim_client, "DELETE", f"{path}/user", admin).status_code == 404
    assert context(scim_client, "PUT", f"{path}/unknown", admin).status_code == 404
    assert (
        context(scim_client, "PUT", "/v1/groups/clinicians/members/user", admin).status_code == 404
    )


@pytest.mark.slow
def test_a_removed_admin_loses_all_admin_permissions_immediately(
    scim_client: Client, home: Environment, provider: Provider, admin: str
) -> None:
    path = "/v1/groups/admin/members/scientist"
    # The other replica does not poll during this test; it depends on the check at the provider.
    with home.gateway(
        **provider.settings, users_seconds=240, spool=home.folder / "spool-3"
    ) as other:
        assert context(scim_client, "PUT", path, admin).status_code == 204
        next_second()
        former = provider.token("scientist")
        grant = {"grantee": "user:scientist", "models": "heart", "policy": "default"}
        changes = [
            ("PUT", path, None),
            ("DELETE", "/v1/groups/user/members/user", None),
            ("PATCH", "/v1/users/user", {"active": False}),
            ("DELETE", "/v1/users/user", None),
            ("POST", "/v1/grants", grant),
            ("DELETE", "/v1/grants/every-model-for-user", None),
            ("POST", "/v1/policies", {"name": "mine"}),
        ]
        made = context(other, "POST", "/v1/grants", former, grant)
        assert made.status_code == 201
        assert context(scim_client, "DELETE", made.headers["location"], former).status_code == 204
        assert context(scim_client, "DELETE", path, admin).status_code == 204
        for replica in (scim_client, other):
            for method, where, content in changes:
                assert context(replica, method, where, former, content).status_code == 403, where
        answer = context(scim_client, "GET", "/v1/users", former)  # after the next poll
        assert (
            answer.status_code,
            "does not list scientist in the groups admin" in answer.json()["detail"],
        ) == (403, True)
        assert scim_client.get("/v1/me", former).json()["roles"] == ["scientist"]
        assert scim_client.infer("heart", former).status_code == 200
    members = {
        each["name"]: each["members"]
        for each in context(scim_client, "GET", "/v1/groups", admin).json()["groups"]
    }
    assert members["admin"] == ["admin"]


@pytest.mark.slow
def test_a_users_token_is_valid_for_15_minutes_and_a_refresh_updates_its_groups(
    scim_client: Client, provider: Provider, admin: str
) -> None:
    gus = Person(provider, "gus")
    gus.register()
    assert context(scim_client, "PUT", "/v1/groups/user/members/gus", admin).status_code == 204
    first = gus.tokens()
    claims = claims_of(first["access_token"])
    assert (claims["groups"], claims["exp"] - claims["iat"], first["expires_in"]) == (
        ["user"],
        900,
        900,
    )
    assert context(scim_client, "DELETE", "/v1/groups/user/members/gus", admin).status_code == 204
    form = {
        "grant_type": "refresh_token",
        "client_id": CLIENT,
        "refresh_token": first["refresh_token"],
    }
    next_second()
    renewed = httpx.post(f"{provider.url}/oauth/token", data=form, timeout=SECONDS).json()
    assert claims_of(renewed["access_token"]).get("groups", []) == []
    assert refused(scim_client, renewed["access_token"]) is None
    again = httpx.post(f"{provider.url}/oauth/token", data=form, timeout=SECONDS)
    assert again.status_code == 400, "a refresh token can be used once"


def test_the_last_admin_cannot_be_removed(scim_client: Client, admin: str) -> None:
    for method, path, content in [
        ("PATCH", "/v1/users/admin", {"active": False}),
        ("DELETE", "/v1/users/admin", None),
        ("DELETE", "/v1/groups/admin/members/admin", None),
        ("DELETE", "/v1/me", None),
    ]:
        assert context(scim_client, method, path, admin, content).status_code == 409, path
    assert scim_client.get("/v1/me", admin).json()["roles"] == ["admin"]


def test_no_response_contains_a_password_a_hash_or_a_secret(
    scim_client: Client, provider: Provider, admin: str
) -> None:
    secrets = json.loads((provider.folder / "secrets.json").read_text()).values()
    rules = [rule for rule in RULES if rule.method == "GET" and not rule.path.endswith("/logs")]
    things = {"model": "heart", "version": "3", "user": "admin"}
    texts = [
        context(
            scim_client,
            "GET",
            rule.path.format_map({**dict.fromkeys(rule.pattern.groupindex, "x"), **things}),
            admin,
        ).text
        for rule in rules
    ]
    texts.append(context(scim_client, "PATCH", "/v1/users/user", admin, {"active": True}).text)
    for text in texts:
        assert not [secret for secret in secrets if secret in text]
        assert "$pbkdf2" not in text
        assert '"password' not in text.lower()
    assert len(texts) > 15


def test_a_deleted_users_predictions_get_a_pseudonym(
    scim_client: Client, home: Environment, provider: Provider, admin: str
) -> None:
    eve = Person(provider, "eve")
    eve.register()
    assert context(scim_client, "PUT", "/v1/groups/user/members/eve", admin).status_code == 204
    given = {"grantee": "user:eve", "models": "heart", "policy": "default"}
    assert context(scim_client, "POST", "/v1/grants", admin, given).status_code == 201
    token = eve.token()
    first = scim_client.infer("heart", token).headers["x-request-id"]
    feedback = {"label": 1, "comment": "I am Eve, of 12 Long Street"}
    assert (
        context(
            scim_client, "POST", f"/v1/predictions/{first}/feedback", token, feedback
        ).status_code
        == 201
    )
    wait_for("the event", lambda: home.count("subject = 'user:eve'") == 1)
    assert context(scim_client, "DELETE", "/v1/me", token).status_code == 204

    receipt = scim_client.get(f"/v1/predictions/{first}", admin).json()
    assert receipt["caller"].startswith("erased-")
    assert receipt["feedback"]["subject"] == receipt["caller"]
    assert (receipt["feedback"]["label"], receipt["feedback"]["comment"]) == (1, None)
    assert (
        context(scim_client, "GET", f"/v1/usage?subject={receipt['caller']}", admin).json()["total"]
        == 1
    )
    assert context(scim_client, "GET", "/v1/grants?grantee=user:eve", admin).json()["grants"] == []
    with psycopg.connect(home.database_url) as connection:
        for table in metadata.sorted_tables:
            if "subject" in table.c and table not in (*erasure.LAPSING, audit, deprovisioned):
                query = f"SELECT count(*) FROM {table.name} WHERE subject = 'user:eve'"  # noqa: S608
                found = connection.execute(query).fetchone()
                assert found == (0,), table.name
    entry = scim_client.get("/v1/audit?limit=1", admin).json()["entries"][0]
    assert (entry["action"], entry["thing"], entry["subject"]) == (
        "user.delete",
        "users/eve",
        "user:eve",
    )


def test_late_events_from_a_spool_get_the_pseudonym_until_it_is_deleted(
    scim_client: Client, home: Environment, provider: Provider
) -> None:
    token = provider.token("user")

    def logged_as() -> str:
        request_id = scim_client.infer("heart", token).headers["x-request-id"]
        wait_for("the event", lambda: home.count(f"request_id = '{request_id}'") == 1)
        return (
            "erased-x"
            if home.count(f"request_id = '{request_id}' AND subject = 'erased-x'")
            else "user"
        )

    assert logged_as() == "user"
    with psycopg.connect(home.database_url) as connection:
        until = datetime.now(UTC) + timedelta(minutes=5)
        connection.execute(
            "INSERT INTO deprovisioned VALUES ('user:user', 'erased-x', %s)", [until]
        )
    assert logged_as() == "erased-x"
    assert home.count("subject = 'user:user'") > 0
    assert deleted_pseudonyms(home) == 0
    assert home.count("subject = 'user:user'") == 0  # including the event before the cleanup
    with psycopg.connect(home.database_url) as connection:
        connection.execute("UPDATE deprovisioned SET until = now() - interval '1 minute'")
    assert logged_as() == "user"  # another user with the same name

    assert deleted_pseudonyms(home) == 0
    with psycopg.connect(home.database_url) as connection:
        connection.execute(
            "UPDATE deprovisioned SET until = now() - interval '8 days' WHERE subject = 'user:user'"
        )
    assert deleted_pseudonyms(home) == 1


def deleted_pseudonyms(home: Environment) -> int:
    """Run the cleanup and return the number of deleted pseudonyms."""

    async def once() -> None:
        database = Database(home.database_url)
        await erasure.PseudonymCleanup(database).once()
        await database.close()

    def count(connection: psycopg.Connection) -> int:
        row = connection.execute("SELECT count(*) FROM deprovisioned").fetchone()
        assert row
        return int(row[0])

    with psycopg.connect(home.database_url, autocommit=True) as connection:
        before = count(connection)
        asyncio.run(once())
        return before - count(connection)


def test_the_erasure_covers_every_table_with_subjects() -> None:
    named = {table.name for table in metadata.sorted_tables if "subject" in table.c}
    covered = [
        table.name
        for table in (
            *erasure.RENAMED,
            *erasure.DELETED,
            *erasure.LAPSING,
            usage,
            audit,
            deprovisioned,
        )
    ]
    assert sorted(covered) == sorted(named)


def test_only_the_gateway_can_use_scim(scim_client: Client, provider: Provider, admin: str) -> None:
    secrets = json.loads((provider.folder / "secrets.json").read_text())
    robot = provider.login_as_client("robot", secrets["service-account-robot"])
    own = provider.login_as_client(SCIM_CLIENT, provider.identity.secrets["scim-secret"])
    for token, status in [
        (robot, 403),
        (admin, 403),
        (provider.token("user"), 403),
        ("made-up", 401),
        (own, 200),
    ]:
        for path in ("Users", "Groups"):
            answer = httpx.get(
                f"{provider.url}/scim/v2/{path}",
                headers={"authorization": f"Bearer {token}"},
                timeout=SECONDS,
            )
            assert answer.status_code == status, answer.text
    me = httpx.get(
        f"{provider.url}/scim/v2/Me", headers={"authorization": f"Bearer {admin}"}, timeout=SECONDS
    )
    assert me.status_code == 403
    assert "audience" in str(refused(scim_client, own))  # the SCIM token has no other use
    assert scim_client.get("/v1/me", robot).json()["roles"] == ["service"]
    assert context(scim_client, "DELETE", "/v1/me", robot).status_code == 409


@pytest.mark.parametrize(
    "rule",
    MANAGE_USERS,
    ids=lambda rule: f"{rule.method} {rule.path}",
)
def test_only_admins_manage_users(scim_client: Client, provider: Provider, rule: Rule) -> None:
    path = rule.path.format(user="ada", group="user")
    assert scim_client.http.request(rule.method, path).status_code == 401
    assert context(scim_client, rule.method, path, provider.token("scientist")).status_code == 403


def test_users_cannot_be_managed_without_scim(client: Client) -> None:
    for rule in MANAGE_USERS:
        path = rule.path.format(user="ada", group="user")
        answer = context(
            client, rule.method, path, client.environment.issuer.token("root", "admin")
        )
        assert (answer.status_code, "SLIPWAY_SCIM_URL" in answer.json()["detail"]) == (404, True)
    with pytest.raises(ValueError, match="SLIPWAY_SCIM_CLIENT_ID"):
        client.environment.settings(scim_url="https://login.example.org/scim/v2")


@pytest.mark.slow
def test_without_the_provider_the_last_list_of_accounts_is_used(
    scim_client: Client, home: Environment, provider: Provider, admin: str
) -> None:
    """Check the last list of accounts, and that registration can be disabled."""
    token = provider.token("user")
    assert (
        context(scim_client, "PATCH", "/v1/users/scientist", admin, {"active": False}).status_code
        == 200
    )
    provider.stop()
    wait_for(
        "the outage to be detected",
        lambda: scim_client.gateway.access.accounts and scim_client.gateway.access.accounts.problem,
    )
    assert scim_client.infer("heart", token).status_code == 200
    wait_for("the event", lambda: home.count("subject = 'user:user'"))
    for method, path in [
        ("GET", "/v1/users"),
        ("PATCH", "/v1/users/scientist"),
        ("DELETE", "/v1/users/user"),
    ]:
        answer = context(
            scim_client, method, path, admin, {"active": True} if method == "PATCH" else None
        )
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert home.count("subject = 'user:user'") > 0  # the erasure was rolled back
    assert (
        scim_client.get("/v1/audit?limit=1", admin).json()["entries"][0]["action"] == "user.disable"
    )
    with home.gateway(ready=False, **provider.settings, spool=home.folder / "spool-3") as late:
        assert late.get("/readyz", None).status_code == 503
        assert "identity provider" in late.get("/readyz", None).json()["accounts"]
        provider.allow_registration(False)
        provider.start()
        wait_for("readiness", lambda: late.get("/readyz", None).status_code == 200)
        assert late.infer("heart", token).status_code == 200
    wait_for(
        "the return",
        lambda: (
            scim_client.gateway.access.accounts
            and scim_client.gateway.access.accounts.problem is None
        ),
    )
    assert (
        context(scim_client, "PATCH", "/v1/users/scientist", admin, {"active": True}).status_code
        == 200
    )
    assert httpx.get(f"{provider.url}/join", timeout=SECONDS).status_code == 404
    provider.stop()
    provider.allow_registration(True)
    provider.start()
    assert httpx.get(f"{provider.url}/join", timeout=SECONDS).status_code == 200
