"""Users and groups under ``/v1``, stored by the identity provider and managed over SCIM."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from slipway_gateway.access.audit import note
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.errors import Conflict, NotFound, Unavailable
from slipway_gateway.people.deprovisioned import is_missed
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import USER_ROLES, Role
from slipway_gateway.people.accounts import Accounts, members
from slipway_gateway.people.scim import Resource, Scim
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

    def __init__(self, accounts: Accounts | None, database: Database) -> None:
        self._configured = accounts
        self._database = database

    def router(self) -> APIRouter:
        users = APIRouter(prefix="/v1/users", tags=["users"])
        users.get("", summary="List users")(self.list_users)
        users.get("/{user}", summary="Return a user")(self.get_user)
        users.patch("/{user}", summary="Disable or enable a user")(self.update_user)
        users.delete(
            "/{user}", status_code=204, summary="Delete a user and erase the name from the log"
        )(self.delete_user)
        groups = APIRouter(prefix="/v1/groups", tags=["groups"])
        groups.get("", summary="List groups")(self.list_groups)
        groups.put("/{group}/members/{user}", status_code=204, summary="Add a user to a group")(
            self.add_member
        )
        groups.delete(
            "/{group}/members/{user}", status_code=204, summary="Remove a user from a group"
        )(self.remove_member)
        router = APIRouter(responses=PROBLEMS)
        router.include_router(users)
        router.include_router(groups)
        router.delete(
            "/v1/me",
            status_code=204,
            tags=["account"],
            summary="Delete your account and erase its name from the log",
        )(self.delete_me)
        return router

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

    @property
    def _accounts(self) -> Accounts:
        if self._configured is None:
            raise NotFound(
                "user management is not configured; set SLIPWAY_SCIM_URL, SLIPWAY_SCIM_CLIENT_ID "
                "and SLIPWAY_SCIM_CLIENT_SECRET"
            )
        return self._configured

    @property
    def _scim(self) -> Scim:
        return self._accounts.scim


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
