"""Users and groups under ``/v1``, stored by the identity provider and managed over SCIM."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from pydantic import ConfigDict, Field

from slipway_gateway.access.audit import note
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ADMINS, SIGNED_IN, Permission
from slipway_gateway.errors import Conflict, NotFound, Unavailable
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import USER_ROLES, Role
from slipway_gateway.people.accounts import Accounts, members
from slipway_gateway.people.deprovisioned import is_missed
from slipway_gateway.people.scim import Resource
from slipway_gateway.postgresql.database import MAINTENANCE_SECONDS, Database

Name = Annotated[str, Path(max_length=200)]


class UserContent(Schema):
    """A user account, without passwords and password hashes."""

    name: str = Field(description="`sub` of the user's tokens")
    display_name: str | None
    emails: list[str]
    groups: list[str]
    active: bool = Field(description="false: the account is disabled and every token is rejected")
    created: datetime | None


class UserList(Schema):
    """All users, sorted by name."""

    users: list[UserContent]


class UserChange(RequestSchema):
    """A change of a user."""

    model_config = ConfigDict(extra="forbid")

    active: bool = Field(description="false: disable, true: enable")


class GroupContent(Schema):
    """A group and the names of its members."""

    name: str
    members: list[str]


class GroupList(Schema):
    """All groups, sorted by name."""

    groups: list[GroupContent]


class Users:
    """The user and group routes.

    The audit contains exactly the changes that the provider accepted, except for a crash between
    the provider's response and the commit.
    """

    def __init__(self, accounts: Accounts, database: Database) -> None:
        self._accounts = accounts
        self._scim = accounts.scim
        self._database = database

    def routers(self) -> list[Router]:
        read = Permission("manage-users", ADMINS)
        write = Permission("manage-users", ADMINS, confirmed=True)
        users = Router(prefix="/v1/users", responses=PROBLEMS, tags=["users"])
        users.add("GET", self.list_users, read, summary="List users")
        users.add("GET /{user}", self.get_user, read, summary="Return a user")
        users.add("PATCH /{user}", self.update_user, write, summary="Disable or enable a user")
        users.add(
            "DELETE /{user}",
            self.delete_user,
            write,
            status_code=204,
            summary="Delete a user and erase the name from the log",
        )
        groups = Router(prefix="/v1/groups", responses=PROBLEMS, tags=["groups"])
        groups.add("GET", self.list_groups, read, summary="List groups")
        groups.add(
            "PUT /{group}/members/{user}",
            self.add_member,
            write,
            status_code=204,
            summary="Add a user to a group",
        )
        groups.add(
            "DELETE /{group}/members/{user}",
            self.remove_member,
            write,
            status_code=204,
            summary="Remove a user from a group",
        )
        account = Router(prefix="/v1/me", responses=PROBLEMS, tags=["account"])
        account.add(
            "DELETE",
            self.delete_me,
            Permission("leave", SIGNED_IN),
            status_code=204,
            summary="Delete your account and erase its name from the log",
        )
        return [users, groups, account]

    async def list_users(self) -> UserList:
        found = [_user(each) async for each in self._scim.all("Users")]
        return UserList(users=sorted(found, key=lambda each: each.name))

    async def get_user(self, user: Name) -> UserContent:
        return _user(await self._scim.one("Users", await self._accounts.id_of(user)))

    async def update_user(
        self, user: Name, body: UserChange, context: CurrentContext
    ) -> UserContent:
        _check_is_other(context, user)
        key = await self._accounts.id_of(user)
        async with self._database.transaction() as connection:
            action = "user.enable" if body.active else "user.disable"
            await note(connection, context, action, f"users/{user}")
            changed = await self._scim.patch(
                "Users", key, op="replace", path="active", value=body.active
            )
        await self._refresh()
        return _user(changed)

    async def delete_user(self, user: Name, context: CurrentContext) -> None:
        _check_is_other(context, user)
        await self._delete(user, context)

    async def delete_me(self, context: CurrentContext) -> None:
        if Role.ADMIN in context.caller.roles:
            raise Conflict(
                "the account of an admin cannot be deleted; another admin must first remove you "
                "from the group admin"
            )
        if Role.SERVICE in context.caller.roles:
            raise Conflict("a service account has no user account at the identity provider")
        await self._delete(context.caller.account, context)

    async def _delete(self, user: str, context: RequestContext) -> None:
        """Delete the account at the provider and erase its name from the log.

        For an account that the provider has already deleted, only erase the name.
        """
        key: str | None = None
        try:
            key = await self._accounts.id_of(user)
        except NotFound:
            if not await is_missed(self._database, subjects.user(user)):
                raise
        async with self._database.transaction(seconds=MAINTENANCE_SECONDS) as connection:
            await note(connection, context, "user.delete", f"users/{user}")
            await erase(connection, subjects.user(user))
            if key is not None:
                await self._scim.delete("Users", key)
        await self._refresh()

    async def _refresh(self) -> None:
        with suppress(Unavailable):  # the change is made; the next periodic refresh retries
            await self._accounts.refresh()

    async def list_groups(self) -> GroupList:
        found, names = await self._named_groups(), self._accounts.names
        return GroupList(
            groups=[
                GroupContent(
                    name=name, members=sorted(names.get(each, each) for each in members(group))
                )
                for name, group in sorted(found.items())
            ]
        )

    async def add_member(self, group: Name, user: Name, context: CurrentContext) -> None:
        key = await self._accounts.id_of(user)
        known = (await self._named_groups()).get(group)
        if known is None and group not in USER_ROLES:
            raise NotFound(f"group {group} does not exist")
        async with self._database.transaction() as connection:
            await note(connection, context, "group.add", f"groups/{group}/members/{user}")
            if known is None:  # a provider may delete a group without members
                await self._scim.create_group(group, key)
            else:
                await self._scim.add_member(known["id"], key)
        await self._refresh()

    async def remove_member(self, group: Name, user: Name, context: CurrentContext) -> None:
        if group == Role.ADMIN:
            _check_is_other(context, user)
        key = await self._accounts.id_of(user)
        known = (await self._named_groups()).get(group, {})
        # A provider identifies members by id, as SCIM requires, or by name, as Canaille does.
        member = next((each for each in members(known) if each in (key, user)), None)
        if member is None:
            raise NotFound(f"user {user} is not a member of group {group}")
        async with self._database.transaction() as connection:
            await note(connection, context, "group.remove", f"groups/{group}/members/{user}")
            await self._scim.remove_member(known, member)
        await self._refresh()

    async def _named_groups(self) -> dict[str, Resource]:
        return {str(group["displayName"]): group async for group in self._scim.all("Groups")}


def _check_is_other(context: RequestContext, user: str) -> None:
    """Raise Conflict if the caller is the user, so that at least one admin always remains."""
    if context.caller.subject == subjects.user(user):
        raise Conflict("an admin cannot change their own account; another admin must do it")


def _user(resource: Resource) -> UserContent:
    """Return the listed attributes of a SCIM user; the response contains no others."""
    full = (resource.get("name") or {}).get("formatted")
    created: Any = (resource.get("meta") or {}).get("created")
    return UserContent(
        name=resource["userName"],
        display_name=resource.get("displayName") or full,
        emails=[each["value"] for each in resource.get("emails") or []],
        groups=sorted(each["display"] for each in resource.get("groups") or []),
        active=resource.get("active", True),
        created=created,
    )
