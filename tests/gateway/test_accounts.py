"""Whose token is good although it is valid: decisions over one look at the accounts."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from slipway_gateway.errors import Unauthenticated, Unavailable
from slipway_gateway.identity.accounts import Accounts
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.scim import Resource, Scim
from slipway_gateway.identity.tokens import Caller

CREATED = "2026-01-01T00:00:00Z"
LATER = 1767225600.0
"""The same as Unix time."""


class Directory(Scim):
    """A provider's users."""

    def __init__(self, *users: Resource) -> None:
        self.users = list(users)

    async def all(self, kind: str, attributes: str | None = None, *, whole: bool = False) -> AsyncIterator[Resource]:
        assert (kind, attributes, whole) == ("Users", "userName,active,meta.created", False)
        for user in self.users:
            yield user


def user(name: str, *, active: bool = True, created: str = CREATED) -> Resource:
    return {"id": f"id-{name}", "userName": name, "active": active, "meta": {"created": created}}


def caller(name: str, issued: float = LATER + 10, role: Role = Role.USER) -> Caller:
    return Caller(name, None, (role.value,), frozenset({role}), float("inf"), (f"user:{name}",), issued)


def looked_at(directory: Directory) -> Accounts:
    accounts = Accounts(directory, seconds=60, leeway=30)
    asyncio.run(accounts.look())
    return accounts


def test_an_account_that_is_there_is_let_in_and_one_that_is_disabled_is_not() -> None:
    accounts = looked_at(Directory(user("ada"), user("bob", active=False)))
    accounts.check(caller("ada"))
    with pytest.raises(Unauthenticated, match="disabled"):
        accounts.check(caller("bob", issued=time.time()))


def test_a_token_of_someone_who_had_the_name_before_is_not_the_new_ones() -> None:
    accounts = looked_at(Directory(user("ada")))
    accounts.check(caller("ada", issued=LATER))  # in the second of the registration
    with pytest.raises(Unauthenticated, match="older than the account"):
        accounts.check(caller("ada", issued=LATER - 1))


def test_who_registered_after_the_look_is_let_in_and_who_was_gone_before_it_is_not() -> None:
    accounts = looked_at(Directory())
    accounts.check(caller("new", issued=time.time() + 1))
    with pytest.raises(Unauthenticated, match="does not exist any more"):
        accounts.check(caller("old", issued=time.time() - 3600))


def test_who_was_there_at_the_last_look_and_is_not_now_is_refused_however_young_the_token() -> None:
    directory = Directory(user("ada"))
    accounts = looked_at(directory)
    directory.users.clear()
    asyncio.run(accounts.look())
    with pytest.raises(Unauthenticated, match="does not exist any more"):
        accounts.check(caller("ada", issued=time.time() + 1))
    directory.users.append(user("ada"))
    asyncio.run(accounts.look())
    accounts.check(caller("ada"))


def test_a_service_account_is_no_user_of_the_provider() -> None:
    looked_at(Directory()).check(caller("robot", issued=0, role=Role.SERVICE))


def test_before_the_first_look_nobody_is_let_in() -> None:
    accounts = Accounts(Directory(), seconds=60, leeway=30)
    assert not accounts.known
    assert accounts.age == float("inf")
    with pytest.raises(Unavailable, match="not known yet"):
        accounts.check(caller("ada"))
