"""Rejection of valid tokens and groups by the accounts and groups of the last snapshot."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from slipway_gateway.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.people.accounts import Accounts
from slipway_gateway.people.scim import Resource, Scim

CREATED = "2026-01-01T00:00:00Z"
LATER = 1767225600.0
"""The same time in Unix time."""


class Directory(Scim):
    """The users of a provider and its groups, with the identifiers of their members."""

    def __init__(self, *users: Resource, **groups: list[str]) -> None:
        self.users = list(users)
        self.groups = groups

    async def all(
        self, kind: str, attributes: str | None = None, *, whole: bool = False
    ) -> AsyncIterator[Resource]:
        assert not whole
        if kind == "Users":
            assert attributes == "userName,active,meta.created"
            for user in self.users:
                yield user
        else:
            assert (kind, attributes) == ("Groups", "displayName,members")
            for name, members in self.groups.items():
                yield {
                    "displayName": name,
                    "members": [{"value": each} for each in members] or None,
                }

    async def one(self, kind: str, key: str) -> Resource:
        assert kind == "Users"
        for user in self.users:
            if user["id"] == key:
                return user
        raise NotFound(f"the identity provider has no Users/{key}")


def user(name: str, *, active: bool = True, created: str = CREATED) -> Resource:
    return {"id": f"id-{name}", "userName": name, "active": active, "meta": {"created": created}}


def caller(name: str, issued: float = LATER + 10, role: Role = Role.USER) -> Caller:
    grantees = (f"user:{name}", f"group:{role}")
    return Caller(name, None, (role.value,), frozenset({role}), float("inf"), grantees, issued)


def accounts_of(directory: Directory) -> Accounts:
    accounts = Accounts(directory, seconds=60, leeway=30)
    asyncio.run(accounts.refresh())
    return accounts


def test_an_active_account_is_accepted_and_a_disabled_one_is_rejected() -> None:
    accounts = accounts_of(Directory(user("ada"), user("bob", active=False)))
    accounts.confirm(caller("ada"))
    with pytest.raises(Unauthenticated, match="disabled"):
        accounts.confirm(caller("bob", issued=time.time()))


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "1"},
        {"userName": "eve"},
        {**user("eve"), "meta": {"created": "once"}},
        {**user("eve"), "meta": "none"},
    ],
    ids=["no name", "no id", "no time", "no metadata"],
)
def test_an_invalid_record_rejects_its_account_and_does_not_affect_others(
    broken: Resource,
) -> None:
    directory = Directory(user("ada"), user("eve"))
    accounts = accounts_of(directory)
    accounts.confirm(caller("eve"))
    directory.users = [broken, user("ada", active=False)]
    asyncio.run(accounts.refresh())
    with pytest.raises(Unauthenticated, match="disabled"):
        accounts.confirm(caller("ada"))
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("eve"))


def test_a_token_older_than_the_account_is_rejected() -> None:
    accounts = accounts_of(Directory(user("ada")))
    accounts.confirm(caller("ada", issued=LATER))  # within the second of the creation
    with pytest.raises(Unauthenticated, match="older than the account"):
        accounts.confirm(caller("ada", issued=LATER - 1))


def test_an_account_created_after_the_snapshot_is_accepted_and_one_deleted_before_is_rejected() -> (
    None
):
    accounts = accounts_of(Directory())
    accounts.confirm(caller("new", issued=time.time() + 1))
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("old", issued=time.time() - 3600))


def test_an_account_missing_since_the_last_snapshot_is_rejected_with_any_token() -> None:
    directory = Directory(user("ada"))
    accounts = accounts_of(directory)
    directory.users.clear()
    asyncio.run(accounts.refresh())
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("ada", issued=time.time() + 1))
    directory.users.append(user("ada"))
    asyncio.run(accounts.refresh())
    accounts.confirm(caller("ada"))


def test_a_service_account_is_not_a_user_of_the_provider() -> None:
    accounts_of(Directory()).confirm(caller("robot", issued=0, role=Role.SERVICE))


def test_all_users_are_rejected_before_the_first_snapshot() -> None:
    accounts = Accounts(Directory(), seconds=60, leeway=30)
    assert not accounts.known
    assert accounts.age == float("inf")
    with pytest.raises(Unavailable, match="not loaded yet"):
        accounts.confirm(caller("ada"))


@pytest.mark.parametrize("member", ["id-ada", "ada"], ids=["named by id", "named by name"])
def test_a_group_counts_when_the_token_and_the_directory_have_it(member: str) -> None:
    directory = Directory(
        user("ada"), admin=[member, "id-of-an-unknown-user"], scientist=[member], user=[]
    )
    accounts = accounts_of(directory)
    root = caller("ada", role=Role.ADMIN)
    assert accounts.confirm(root) == root
    directory.groups = {"scientist": [member]}
    asyncio.run(accounts.refresh())
    confirmed = accounts.confirm(root)
    assert (confirmed.groups, confirmed.roles, confirmed.grantees) == (
        (),
        frozenset(),
        ("user:ada",),
    )
    assert confirmed.withdrawn == ("admin",)


def test_a_group_of_another_user_whose_name_is_an_id_gives_no_role() -> None:
    accounts = accounts_of(Directory(user("ada"), user("id-ada"), admin=["id-ada"]))
    assert accounts.confirm(caller("ada", role=Role.ADMIN)).roles == {Role.ADMIN}
    assert accounts.confirm(caller("id-ada", role=Role.ADMIN)).roles == frozenset()


def test_the_groups_of_a_token_newer_than_the_snapshot_apply_until_the_next_one() -> None:
    accounts = accounts_of(Directory(user("ada")))
    young = caller("ada", issued=time.time() + 1)
    assert accounts.confirm(young) == young
    asyncio.run(accounts.refresh())
    assert accounts.confirm(replace(young, issued=time.time() - 1)).roles == frozenset()


def test_an_immediate_confirmation_uses_the_directory_and_not_the_snapshot() -> None:
    directory = Directory(user("ada"), admin=["ada"])
    accounts = accounts_of(directory)
    root = caller("ada", issued=time.time() + 1, role=Role.ADMIN)

    def roles_now() -> frozenset[Role]:
        return asyncio.run(accounts.confirm_now(root)).roles

    assert roles_now() == {Role.ADMIN}
    directory.groups = {}
    assert accounts.confirm(root).roles == {Role.ADMIN}
    assert roles_now() == frozenset()
    directory.groups = {"admin": ["ada"]}
    directory.users = [user("ada", active=False)]
    with pytest.raises(Forbidden, match="ada is disabled"):
        roles_now()
    directory.users = []
    with pytest.raises(Forbidden, match="ada does not exist"):
        roles_now()


def test_a_service_account_has_its_role_from_its_token_alone() -> None:
    robot = caller("robot", issued=0, role=Role.SERVICE)
    accounts = accounts_of(Directory(user("robot", active=False)))
    assert accounts.confirm(robot) == robot
    assert asyncio.run(accounts.confirm_now(robot)) == robot
