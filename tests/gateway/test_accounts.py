"""Whose token is good although it is valid, and which of its groups: decisions over one look at
accounts and groups.
"""

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
"""The same as Unix time."""


class Directory(Scim):
    """A provider's users, and its groups with the members as the provider names them."""

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


def looked_at(directory: Directory) -> Accounts:
    accounts = Accounts(directory, seconds=60, leeway=30)
    asyncio.run(accounts.look())
    return accounts


def test_an_account_that_is_there_is_let_in_and_one_that_is_disabled_is_not() -> None:
    accounts = looked_at(Directory(user("ada"), user("bob", active=False)))
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
def test_a_record_that_cannot_be_read_is_refused_and_does_not_hold_up_what_the_others_say(
    broken: Resource,
) -> None:
    directory = Directory(user("ada"), user("eve"))
    accounts = looked_at(directory)
    accounts.confirm(caller("eve"))
    directory.users = [broken, user("ada", active=False)]
    asyncio.run(accounts.look())
    with pytest.raises(Unauthenticated, match="disabled"):
        accounts.confirm(caller("ada"))
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("eve"))


def test_a_token_of_someone_who_had_the_name_before_is_not_the_new_ones() -> None:
    accounts = looked_at(Directory(user("ada")))
    accounts.confirm(caller("ada", issued=LATER))  # in the second of the registration
    with pytest.raises(Unauthenticated, match="older than the account"):
        accounts.confirm(caller("ada", issued=LATER - 1))


def test_who_registered_after_the_look_is_let_in_and_who_was_gone_before_it_is_not() -> None:
    accounts = looked_at(Directory())
    accounts.confirm(caller("new", issued=time.time() + 1))
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("old", issued=time.time() - 3600))


def test_who_was_there_at_the_last_look_and_is_not_now_is_refused_however_young_the_token() -> None:
    directory = Directory(user("ada"))
    accounts = looked_at(directory)
    directory.users.clear()
    asyncio.run(accounts.look())
    with pytest.raises(Unauthenticated, match="no longer exists"):
        accounts.confirm(caller("ada", issued=time.time() + 1))
    directory.users.append(user("ada"))
    asyncio.run(accounts.look())
    accounts.confirm(caller("ada"))


def test_a_service_account_is_no_user_of_the_provider() -> None:
    looked_at(Directory()).confirm(caller("robot", issued=0, role=Role.SERVICE))


def test_before_the_first_look_nobody_is_let_in() -> None:
    accounts = Accounts(Directory(), seconds=60, leeway=30)
    assert not accounts.known
    assert accounts.age == float("inf")
    with pytest.raises(Unavailable, match="not loaded yet"):
        accounts.confirm(caller("ada"))


@pytest.mark.parametrize("member", ["id-ada", "ada"], ids=["named by id", "named by name"])
def test_a_group_counts_when_the_token_and_the_directory_have_it(member: str) -> None:
    directory = Directory(user("ada"), admin=[member, "id-of-nobody"], scientist=[member], user=[])
    accounts = looked_at(directory)
    root = caller("ada", role=Role.ADMIN)
    assert accounts.confirm(root) == root
    directory.groups = {"scientist": [member]}
    asyncio.run(accounts.look())
    confirmed = accounts.confirm(root)
    assert (confirmed.groups, confirmed.roles, confirmed.grantees) == (
        (),
        frozenset(),
        ("user:ada",),
    )
    assert confirmed.withdrawn == ("admin",)


def test_a_group_of_another_person_whose_name_is_an_id_gives_nothing() -> None:
    accounts = looked_at(Directory(user("ada"), user("id-ada"), admin=["id-ada"]))
    assert accounts.confirm(caller("ada", role=Role.ADMIN)).roles == {Role.ADMIN}
    assert accounts.confirm(caller("id-ada", role=Role.ADMIN)).roles == frozenset()


def test_a_token_that_is_younger_than_the_look_keeps_its_groups_until_the_next_look() -> None:
    accounts = looked_at(Directory(user("ada")))
    young = caller("ada", issued=time.time() + 1)
    assert accounts.confirm(young) == young
    asyncio.run(accounts.look())
    assert accounts.confirm(replace(young, issued=time.time() - 1)).roles == frozenset()


def test_asked_at_the_moment_the_directory_decides_and_not_the_last_look() -> None:
    directory = Directory(user("ada"), admin=["ada"])
    accounts = looked_at(directory)
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
    accounts = looked_at(Directory(user("robot", active=False)))
    assert accounts.confirm(robot) == robot
    assert asyncio.run(accounts.confirm_now(robot)) == robot
