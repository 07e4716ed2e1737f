"""Users and groups under ``/v1``: the identity provider keeps them, administrators manage them
here, and each may leave.
"""

from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from slipway_gateway.access.audit import note
from slipway_gateway.access.context import RequestContext
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.errors import Conflict, NotFound, Unavailable
from slipway_gateway.eventlog.deprovisioned import is_missed
from slipway_gateway.eventlog.erasure import erase
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import PEOPLE, Role
from slipway_gateway.people.accounts import Accounts, members
from slipway_gateway.people.scim import Resource, Scim
from slipway_gateway.postgresql.database import MAINTENANCE_SECONDS, Database

Name = Annotated[str, Path(max_length=200)]


class UserContent(Schema):
    """An account. Neither passwords nor anything made from them leave the provider."""

    name: str = Field(description="`sub` of the user's tokens")
    display_name: str | None
    emails: list[str]
    groups: list[str]
    active: bool = Field(description="false: disabled, nothing lets the user in")
    created: datetime | None


class UserList(Schema):
    """All users, by name."""

    users: list[UserContent]


class UserChange(RequestSchema):
    """What of a user can be changed here."""

    model_config = ConfigDict(extra="forbid")

    active: bool = Field(description="false: disable, true: enable")


class GroupContent(Schema):
    """A group and its members' names."""

    name: str
    members: list[str]


class GroupList(Schema):
    """All groups, by name."""

    groups: list[GroupContent]


class Users:
    """The routes. A change is in the audit if the provider took it, and only then; but for a break
    between its answer and our commit.
    """

    def __init__(self, accounts: Accounts | None, database: Database) -> None:
        self._given = accounts
        self._database = database

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", responses=PROBLEMS)
        router.get("/users", summary="All users")(self.users)
        router.get("/users/{user}", summary="One user")(self.user)
        router.patch("/users/{user}", summary="Disable or enable a user")(self.change_user)
        router.delete(
            "/users/{user}", status_code=204, summary="Delete a user, and their name from the log"
        )(self.delete_user)
        router.get("/groups", summary="All groups")(self.groups)
        router.put(
            "/groups/{group}/members/{user}", status_code=204, summary="Put a user into a group"
        )(self.add_member)
        router.delete(
            "/groups/{group}/members/{user}", status_code=204, summary="Take a user out of a group"
        )(self.remove_member)
        router.delete(
            "/me", status_code=204, summary="Delete my account, and my name from the log"
        )(self.leave)
        return router

    async def users(self) -> UserList:
        found = [_user(each) async for each in self._scim.all("Users")]
        return UserList(users=sorted(found, key=lambda each: each.name))

    async def user(self, user: Name) -> UserContent:
        return _user(await self._scim.one("Users", await self._accounts.id_of(user)))

    async def change_user(self, user: Name, said: UserChange, context: CurrentCall) -> UserContent:
        _not_oneself(context, user)
        key = await self._accounts.id_of(user)
        async with self._database.transaction() as connection:
            await note(
                connection,
                context,
                "user.enable" if said.active else "user.disable",
                f"users/{user}",
            )
            changed = await self._scim.patch(
                "Users", key, op="replace", path="active", value=said.active
            )
        await self._look_again()
        return _user(changed)

    async def delete_user(self, user: Name, context: CurrentCall) -> None:
        _not_oneself(context, user)
        await self._delete(user, context)

    async def leave(self, context: CurrentCall) -> None:
        if Role.ADMIN in context.caller.roles:
            raise Conflict(
                "an admin cannot leave: another admin has to take you out of the group first"
            )
        if Role.SERVICE in context.caller.roles:
            raise Conflict("a service account is no user of the identity provider")
        await self._delete(context.caller.account, context)

    async def _delete(self, user: str, context: RequestContext) -> None:
        """Also what is left here of an account that is not there any more."""
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
        await self._look_again()

    async def _look_again(self) -> None:
        with suppress(Unavailable):  # it is done, and the next look will tell
            await self._accounts.look()

    async def groups(self) -> GroupList:
        found, names = await self._named_groups(), self._accounts.names
        return GroupList(
            groups=[
                GroupContent(
                    name=name, members=sorted(names.get(each, each) for each in members(group))
                )
                for name, group in sorted(found.items())
            ]
        )

    async def add_member(self, group: Name, user: Name, context: CurrentCall) -> None:
        key = await self._accounts.id_of(user)
        known = (await self._named_groups()).get(group)
        if known is None and group not in PEOPLE:
            raise NotFound(f"there is no group {group}")
        async with self._database.transaction() as connection:
            await note(connection, context, "group.add", f"groups/{group}/members/{user}")
            if known is None:  # a provider may keep no group without members
                await self._scim.create_group(group, key)
            else:
                await self._scim.add_member(known["id"], key)
        await self._look_again()

    async def remove_member(self, group: Name, user: Name, context: CurrentCall) -> None:
        if group == Role.ADMIN:
            _not_oneself(context, user)
        key = await self._accounts.id_of(user)
        known = (await self._named_groups()).get(group, {})
        # A provider names members by id, as SCIM says, or by name, as Canaille does.
        member = next((each for each in members(known) if each in (key, user)), None)
        if member is None:
            raise NotFound(f"there is no user {user} in group {group}")
        async with self._database.transaction() as connection:
            await note(connection, context, "group.remove", f"groups/{group}/members/{user}")
            await self._scim.remove_member(known, member)
        await self._look_again()

    async def _named_groups(self) -> dict[str, Resource]:
        return {str(group["displayName"]): group async for group in self._scim.all("Groups")}

    @property
    def _accounts(self) -> Accounts:
        if self._given is None:
            raise NotFound(
                "users are not managed here: set SLIPWAY_SCIM_URL, SLIPWAY_SCIM_CLIENT_ID "
                "and SLIPWAY_SCIM_CLIENT_SECRET"
            )
        return self._given

    @property
    def _scim(self) -> Scim:
        return self._accounts.scim


def _not_oneself(context: RequestContext, user: str) -> None:
    """So there is always an admin left."""
    if context.caller.subject == subjects.user(user):
        raise Conflict("not to yourself: another admin has to do that")


def _user(resource: Resource) -> UserContent:
    """Only what is named here gets out, whatever the provider sends."""
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
