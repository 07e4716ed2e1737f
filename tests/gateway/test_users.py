"""Users: the life of an account at the bundled provider, and what the gateway makes of it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from slipway_gateway.access.rules import RULES
from slipway_gateway.eventlog import erasure
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import audit, deprovisioned, metadata, usage
from slipway_local.identity import CLIENT, SCIM_CLIENT

from tests.gateway.environment import Client, Environment
from tests.gateway.loopback import wait_for
from tests.gateway.provider import Person, Provider, next_second
from tests.identity.provider import claims_of

PEOPLE = {"admin", "scientist", "user"}
"""Who is there from the start, each in the group of the same name."""


@pytest.fixture(scope="module")
def city(home: Environment, provider: Provider) -> Iterator[Client]:
    """A gateway that trusts the provider, and looks at its accounts often."""
    with home.gateway(**provider.settings, users_seconds=0.5) as client:
        yield client


def context(
    client: Client, method: str, path: str, token: str, content: Any = None
) -> httpx.Response:
    return client.http.request(
        method, path, json=content, headers={"authorization": f"Bearer {token}"}
    )


def refused(client: Client, token: str) -> str | None:
    """Why the token is refused; None while it is not."""
    answer = client.get("/v1/me", token)
    return str(answer.json()["detail"]) if answer.status_code == 401 else None


def test_an_account_is_made_used_reset_changed_and_deleted(
    city: Client, provider: Provider, admin: str
) -> None:
    ada = Person(provider, "ada")
    ada.register()
    token = ada.token()
    me = city.get("/v1/me", token).json()
    assert (me["subject"], me["account"], me["name"], me["groups"], me["roles"]) == (
        "user:ada",
        "ada",
        "Ada",
        [],
        [],
    )
    assert city.infer("heart", token).status_code == 403  # whoever registers may nothing yet
    assert context(city, "PUT", "/v1/groups/user/members/ada", admin).status_code == 204
    token = ada.token()
    assert city.infer("heart", token).status_code == 200

    for renew in (ada.forget_password, ada.change_password):
        former = ada.password
        renew()
        assert not ada.may_sign_in(former)
        wait_for("the end of the lockout", lambda: ada.may_sign_in(ada.password))

    assert context(city, "DELETE", "/v1/me", token).status_code == 204
    assert refused(city, token) == "the account no longer exists"
    assert not ada.may_sign_in(ada.password)
    assert context(city, "GET", "/v1/users/ada", admin).status_code == 404


def test_nobody_registers_into_a_group_or_with_the_address_of_another(
    provider: Provider, city: Client, admin: str
) -> None:
    (group,) = [each for each in scim(provider, "Groups") if each["displayName"] == "admin"]
    mal, mel = Person(provider, "mal"), Person(provider, "mel")
    with mal.browser() as browser:
        mal.fill_in_registration(browser, {"groups": group["id"], "lock_date": ""})
    assert context(city, "GET", "/v1/users/mal", admin).json()["groups"] == []
    with mel.browser() as browser:
        mel.fill_in_registration(browser, {"emails-0": "president@people.example"})
        assert browser.page.url.path.startswith("/register/")
    assert context(city, "GET", "/v1/users/mel", admin).status_code == 404


def scim(provider: Provider, kind: str) -> list[dict[str, Any]]:
    token = provider.login_as_client(SCIM_CLIENT, provider.identity.scim_secret)
    answer = httpx.get(
        f"{provider.url}/scim/v2/{kind}", headers={"authorization": f"Bearer {token}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["Resources"])


def test_a_disabled_user_is_refused_and_an_enabled_one_is_not(
    city: Client, home: Environment, provider: Provider, admin: str
) -> None:
    token = provider.token("user")
    # The other replica reaches the provider by another name than its public one.
    inside = {
        **provider.settings,
        "oidc_discovery_url": provider.url.replace("127.0.0.1", "localhost"),
    }
    with home.gateway(**inside, users_seconds=0.5, spool=home.folder / "spool-2") as other:
        assert [refused(city, token), refused(other, token)] == [None, None]
        said = context(city, "PATCH", "/v1/users/user", admin, {"active": False})
        assert (said.status_code, said.json()["active"]) == (200, False)
        assert refused(city, token) == "the account is disabled"  # at once where it was said
        wait_for(
            "the other replica's look", lambda: refused(other, token) == "the account is disabled"
        )
        with pytest.raises(httpx.HTTPStatusError):
            provider.identity.login("user")
        assert (
            context(city, "PATCH", "/v1/users/user", admin, {"active": True}).json()["active"]
            is True
        )
        wait_for("the other replica's look", lambda: refused(other, token) is None)
    entries = city.get("/v1/audit?limit=2", admin).json()["entries"]
    assert [(each["action"], each["thing"], each["subject"]) for each in entries] == [
        ("user.enable", "users/user", "user:admin"),
        ("user.disable", "users/user", "user:admin"),
    ]


def test_by_the_settings_as_they_come_a_disabled_user_is_refused_within_five_minutes(
    home: Environment,
) -> None:
    assert home.settings().users_seconds <= 240
    with pytest.raises(ValueError, match="users_seconds"):
        home.settings(users_seconds=300)


def test_users_and_groups_are_shown_and_members_come_and_go(city: Client, admin: str) -> None:
    shown = context(city, "GET", "/v1/users", admin).json()["users"]
    known = {each["name"]: each for each in shown}
    assert known.keys() >= PEOPLE
    one = context(city, "GET", "/v1/users/scientist", admin).json()
    assert one == known["scientist"]
    assert (one["emails"], one["groups"], one["active"]) == (
        ["scientist@slipway.example"],
        ["scientist"],
        True,
    )

    def members() -> dict[str, list[str]]:
        return {
            each["name"]: each["members"]
            for each in context(city, "GET", "/v1/groups", admin).json()["groups"]
        }

    path = "/v1/groups/scientist/members"
    for method, user, left in [
        ("PUT", "user", ["scientist", "user"]),
        ("PUT", "user", ["scientist", "user"]),
        ("DELETE", "user", ["scientist"]),
        ("DELETE", "scientist", []),  # the provider may now have no such group
        ("PUT", "scientist", ["scientist"]),
    ]:
        assert context(city, method, f"{path}/{user}", admin).status_code == 204
        assert members().get("scientist", []) == left
    assert context(city, "DELETE", f"{path}/user", admin).status_code == 404
    assert context(city, "PUT", f"{path}/nobody", admin).status_code == 404
    assert context(city, "PUT", "/v1/groups/choir/members/user", admin).status_code == 404


def test_an_admin_who_is_taken_out_of_the_group_changes_nothing_any_more(
    city: Client, home: Environment, provider: Provider, admin: str
) -> None:
    path = "/v1/groups/admin/members/scientist"
    # The other replica does not look again in the time of this test: only the provider's answer of
    # the moment is there.
    with home.gateway(
        **provider.settings, users_seconds=240, spool=home.folder / "spool-3"
    ) as other:
        assert context(city, "PUT", path, admin).status_code == 204
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
        assert context(city, "DELETE", made.headers["location"], former).status_code == 204
        assert context(city, "DELETE", path, admin).status_code == 204
        for replica in (city, other):
            for method, where, content in changes:
                assert context(replica, method, where, former, content).status_code == 403, where
        answer = context(city, "GET", "/v1/users", former)  # it has looked since
        assert (
            answer.status_code,
            "does not list scientist in the groups admin" in answer.json()["detail"],
        ) == (403, True)
        assert city.get("/v1/me", former).json()["roles"] == ["scientist"]
        assert city.infer("heart", former).status_code == 200
    members = {
        each["name"]: each["members"]
        for each in context(city, "GET", "/v1/groups", admin).json()["groups"]
    }
    assert members["admin"] == ["admin"]


def test_a_token_of_a_person_lives_a_quarter_of_an_hour_and_is_renewed_with_the_groups_of_then(
    city: Client, provider: Provider, admin: str
) -> None:
    gus = Person(provider, "gus")
    gus.register()
    assert context(city, "PUT", "/v1/groups/user/members/gus", admin).status_code == 204
    first = gus.tokens()
    claims = claims_of(first["access_token"])
    assert (claims["groups"], claims["exp"] - claims["iat"], first["expires_in"]) == (
        ["user"],
        900,
        900,
    )
    assert context(city, "DELETE", "/v1/groups/user/members/gus", admin).status_code == 204
    form = {
        "grant_type": "refresh_token",
        "client_id": CLIENT,
        "refresh_token": first["refresh_token"],
    }
    next_second()
    renewed = httpx.post(f"{provider.url}/oauth/token", data=form, timeout=30).json()
    assert claims_of(renewed["access_token"]).get("groups", []) == []
    assert refused(city, renewed["access_token"]) is None
    assert (
        httpx.post(f"{provider.url}/oauth/token", data=form, timeout=30).status_code == 400
    )  # each is good once


def test_there_is_always_an_admin_left(city: Client, admin: str) -> None:
    for method, path, content in [
        ("PATCH", "/v1/users/admin", {"active": False}),
        ("DELETE", "/v1/users/admin", None),
        ("DELETE", "/v1/groups/admin/members/admin", None),
        ("DELETE", "/v1/me", None),
    ]:
        assert context(city, method, path, admin, content).status_code == 409, path
    assert city.get("/v1/me", admin).json()["roles"] == ["admin"]


def test_no_answer_has_a_password_a_hash_or_a_secret(
    city: Client, provider: Provider, admin: str
) -> None:
    secrets = json.loads((provider.folder / "secrets.json").read_text()).values()
    rules = [rule for rule in RULES if rule.method == "GET" and not rule.path.endswith("/logs")]
    things = {"model": "heart", "version": "3", "user": "admin"}
    texts = [
        context(
            city,
            "GET",
            rule.path.format_map({**dict.fromkeys(rule.pattern.groupindex, "x"), **things}),
            admin,
        ).text
        for rule in rules
    ]
    texts.append(context(city, "PATCH", "/v1/users/user", admin, {"active": True}).text)
    for text in texts:
        assert not [secret for secret in secrets if secret in text]
        assert "$pbkdf2" not in text
        assert '"password' not in text.lower()
    assert len(texts) > 15


def test_whoever_leaves_leaves_predictions_without_a_name(
    city: Client, home: Environment, provider: Provider, admin: str
) -> None:
    eve = Person(provider, "eve")
    eve.register()
    assert context(city, "PUT", "/v1/groups/user/members/eve", admin).status_code == 204
    given = {"grantee": "user:eve", "models": "heart", "policy": "default"}
    assert context(city, "POST", "/v1/grants", admin, given).status_code == 201
    token = eve.token()
    first = city.infer("heart", token).headers["x-request-id"]
    said = {"label": 1, "comment": "I am Eve, of 12 Long Street"}
    assert (
        context(city, "POST", f"/v1/predictions/{first}/feedback", token, said).status_code == 201
    )
    wait_for("the event", lambda: home.count("subject = 'user:eve'") == 1)
    assert context(city, "DELETE", "/v1/me", token).status_code == 204

    receipt = city.get(f"/v1/predictions/{first}", admin).json()
    assert receipt["caller"].startswith("departed-")
    assert receipt["feedback"]["subject"] == receipt["caller"]
    assert (receipt["feedback"]["label"], receipt["feedback"]["comment"]) == (1, None)
    assert (
        context(city, "GET", f"/v1/usage?subject={receipt['caller']}", admin).json()["total"] == 1
    )
    assert context(city, "GET", "/v1/grants?grantee=user:eve", admin).json()["grants"] == []
    with psycopg.connect(home.database_url) as connection:
        for table in metadata.sorted_tables:
            if "subject" in table.c and table not in (*erasure.LAPSING, audit, deprovisioned):
                query = f"SELECT count(*) FROM {table.name} WHERE subject = 'user:eve'"  # noqa: S608
                found = connection.execute(query).fetchone()
                assert found == (0,), table.name
    entry = city.get("/v1/audit?limit=1", admin).json()["entries"][0]
    assert (entry["action"], entry["thing"], entry["subject"]) == (
        "user.delete",
        "users/eve",
        "user:eve",
    )


def test_what_comes_late_from_a_spool_gets_the_pseudonym_until_that_is_forgotten(
    city: Client, home: Environment, provider: Provider
) -> None:
    token = provider.token("user")

    def logged_as() -> str:
        request_id = city.infer("heart", token).headers["x-request-id"]
        wait_for("the event", lambda: home.count(f"request_id = '{request_id}'") == 1)
        return (
            "departed-x"
            if home.count(f"request_id = '{request_id}' AND subject = 'departed-x'")
            else "user"
        )

    assert logged_as() == "user"
    with psycopg.connect(home.database_url) as connection:
        until = datetime.now(UTC) + timedelta(minutes=5)
        connection.execute(
            "INSERT INTO deprovisioned VALUES ('user:user', 'departed-x', %s)", [until]
        )
    assert logged_as() == "departed-x"
    assert home.count("subject = 'user:user'") > 0
    assert forgotten(home) == 0
    assert home.count("subject = 'user:user'") == 0  # what came in between
    with psycopg.connect(home.database_url) as connection:
        connection.execute("UPDATE deprovisioned SET until = now() - interval '1 minute'")
    assert logged_as() == "user"  # another of the same name

    assert forgotten(home) == 0
    with psycopg.connect(home.database_url) as connection:
        connection.execute(
            "UPDATE deprovisioned SET until = now() - interval '8 days' WHERE subject = 'user:user'"
        )
    assert forgotten(home) == 1


def forgotten(home: Environment) -> int:
    """How many names are forgotten now."""

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


def test_of_every_table_with_names_it_is_decided_what_becomes_of_them() -> None:
    named = {table.name for table in metadata.sorted_tables if "subject" in table.c}
    decided = [
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
    assert sorted(decided) == sorted(named)


def test_scim_is_for_the_gateway_alone(city: Client, provider: Provider, admin: str) -> None:
    secrets = json.loads((provider.folder / "secrets.json").read_text())
    robot = provider.login_as_client("robot", secrets["service-account-robot"])
    own = provider.login_as_client(SCIM_CLIENT, provider.identity.scim_secret)
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
                timeout=30,
            )
            assert answer.status_code == status, answer.text
    me = httpx.get(
        f"{provider.url}/scim/v2/Me", headers={"authorization": f"Bearer {admin}"}, timeout=30
    )
    assert me.status_code == 403
    assert "audience" in str(refused(city, own))  # nor is that token good for anything else
    assert city.get("/v1/me", robot).json()["roles"] == ["service"]
    assert context(city, "DELETE", "/v1/me", robot).status_code == 409


def test_without_scim_users_are_not_managed_here(client: Client) -> None:
    for method, path in [("GET", "/v1/users"), ("GET", "/v1/groups"), ("DELETE", "/v1/users/ada")]:
        answer = context(client, method, path, client.environment.issuer.token("root", "admin"))
        assert (answer.status_code, "SLIPWAY_SCIM_URL" in answer.json()["detail"]) == (404, True)
    with pytest.raises(ValueError, match="SLIPWAY_SCIM_CLIENT_ID"):
        client.environment.settings(scim_url="https://login.example.org/scim/v2")


def test_while_the_provider_is_away_the_last_look_holds(
    city: Client, home: Environment, provider: Provider, admin: str
) -> None:
    """And registration is off when it is said so."""
    token = provider.token("user")
    assert (
        context(city, "PATCH", "/v1/users/scientist", admin, {"active": False}).status_code == 200
    )
    provider.stop()
    wait_for(
        "the loss to be noticed", lambda: city.gateway.accounts and city.gateway.accounts.problem
    )
    assert city.infer("heart", token).status_code == 200
    for method, path in [
        ("GET", "/v1/users"),
        ("PATCH", "/v1/users/scientist"),
        ("DELETE", "/v1/users/user"),
    ]:
        answer = context(city, method, path, admin, {"active": True} if method == "PATCH" else None)
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert home.count("subject = 'user:user'") > 0  # nothing was done by halves
    assert city.get("/v1/audit?limit=1", admin).json()["entries"][0]["action"] == "user.disable"
    with home.gateway(ready=False, **provider.settings, spool=home.folder / "spool-3") as late:
        assert late.get("/readyz", None).status_code == 503
        assert "identity provider" in late.get("/readyz", None).json()["accounts"]
        provider.identity = replace(provider.identity, registration=False)
        provider.start()
        wait_for("readiness", lambda: late.get("/readyz", None).status_code == 200)
        assert late.infer("heart", token).status_code == 200
    wait_for("the return", lambda: city.gateway.accounts and city.gateway.accounts.problem is None)
    assert context(city, "PATCH", "/v1/users/scientist", admin, {"active": True}).status_code == 200
    assert httpx.get(f"{provider.url}/join", timeout=30).status_code == 404
    provider.stop()
    provider.identity = replace(provider.identity, registration=True)
    provider.start()
    assert httpx.get(f"{provider.url}/join", timeout=30).status_code == 200
