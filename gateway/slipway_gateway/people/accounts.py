"""Which accounts and groups the identity provider has, read from time to time: a token outlives its
account and its groups.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from slipway_gateway.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.people.scim import Resource, Scim

log = logging.getLogger(__name__)

ATTRIBUTES = "userName,active,meta.created"
GROUP_ATTRIBUTES = "displayName,members"
RETRY_SECONDS = 2.0
NO_GROUPS: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DirectorySnapshot:
    """All accounts of one moment."""

    began: float
    """Unix time at which the look began."""
    active: dict[str, float] = field(default_factory=dict)
    """Subject to the Unix time of the account's making, in whole seconds as tokens have it."""
    disabled: frozenset[str] = frozenset()
    ids: dict[str, str] = field(default_factory=dict)
    """Subject to SCIM id."""
    gone: frozenset[str] = frozenset()
    """Who was there at an earlier look."""
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    """Subject to the names of their groups; who is in none is left out."""


class Accounts:
    """While the provider is away the last look stays: nobody can be disabled there meanwhile, and
    known people keep working.
    """

    def __init__(self, scim: Scim, *, seconds: float, leeway: float) -> None:
        self.scim = scim
        self._seconds = seconds
        self._leeway = leeway
        self._look: DirectorySnapshot | None = None
        self._lock = asyncio.Lock()
        self.problem: str | None = "the identity provider has not been asked for its accounts yet"
        """Why the last look failed; None after a good one."""

    @property
    def known(self) -> bool:
        return self._look is not None

    @property
    def age(self) -> float:
        """Seconds since the last look; infinite before the first one."""
        return time.time() - self._look.began if self._look else float("inf")

    @property
    def names(self) -> dict[str, str]:
        """SCIM id to subject, as of the last look."""
        return {key: subject for subject, key in self._look.ids.items()} if self._look else {}

    def confirm(self, caller: Caller) -> Caller:
        """Return the caller with the groups that both the token and the provider give.

        A token that was issued after the last look is newer than what is known here, so its groups
        are taken as they are until the next look. Raise Unauthenticated if the account is disabled,
        gone, or younger than the token: another's of the same name. A service account is none of
        the provider's users. One who is not known yet came after the last look, if the token did.
        """
        if Role.SERVICE in caller.roles:
            return caller
        look = self._look
        if (
            look is not None
            and (made := look.active.get(caller.account)) is not None
            and caller.issued >= made
        ):
            return (
                caller
                if caller.issued > look.began
                else caller.within(look.groups.get(caller.account, NO_GROUPS))
            )
        if look is None:
            raise Unavailable(
                "the accounts are not known yet: the identity provider has not answered"
            )
        if caller.account in look.disabled:
            raise Unauthenticated("the account is disabled")
        if caller.account in look.active:
            raise Unauthenticated("the token is older than the account")
        if caller.account in look.gone or caller.issued < look.began - self._leeway:
            raise Unauthenticated("the account does not exist any more")
        return caller

    async def confirm_now(self, caller: Caller) -> Caller:
        """Ask the provider at this moment: return the caller with the groups that both the token
        and the provider give.

        For changes of who may do what: nobody keeps a right for long enough to give it back to
        themselves. Raises Unauthenticated, Forbidden when the account is disabled or gone, and
        Unavailable while the provider is away.
        """
        caller = self.confirm(caller)
        if Role.SERVICE in caller.roles:
            return caller
        try:
            user = await self.scim.one("Users", await self.id_of(caller.account))
        except NotFound:
            raise Forbidden(
                f"account {caller.account} does not exist at the identity provider"
            ) from None
        if user.get("userName") != caller.account or not user.get("active", True):
            raise Forbidden(f"account {caller.account} is disabled at the identity provider")
        ids = {caller.account: str(user["id"])}
        groups = [each async for each in self.scim.all("Groups", GROUP_ATTRIBUTES)]
        return caller.within(_groups(groups, ids).get(caller.account, NO_GROUPS))

    async def keep(self) -> None:
        """Look now and then, for ever."""
        while True:
            try:
                await self.look()
            except Unavailable:
                await asyncio.sleep(min(self._seconds, RETRY_SECONDS))
            else:
                await asyncio.sleep(self._seconds)

    async def look(self) -> DirectorySnapshot:
        """Look now, whoever waits for it. Raises Unavailable."""
        async with self._lock:
            began = time.time()
            try:
                users = [each async for each in self.scim.all("Users", ATTRIBUTES)]
                groups = [each async for each in self.scim.all("Groups", GROUP_ATTRIBUTES)]
                self._look = look = _read(began, users, groups, self._look)
            except (Unavailable, NotFound) as error:
                if str(error) != self.problem:
                    log.warning("the accounts stay as they were %.0f s ago: %s", self.age, error)
                self.problem = str(error)
                raise Unavailable(str(error)) from None
            self.problem = None
            return look

    async def id_of(self, subject: str) -> str:
        """The SCIM id of an account, also of one that is new. Raises NotFound, Unavailable."""
        look = self._look
        if look is None or subject not in look.ids:
            look = await self.look()
        if subject not in look.ids:
            raise NotFound(f"there is no user {subject}")
        return look.ids[subject]


def _read(
    began: float, users: list[Resource], groups: list[Resource], former: DirectorySnapshot | None
) -> DirectorySnapshot:
    """A record that cannot be read is left out: its account is refused, and it cannot hold up what
    the others say.
    """
    users, groups = _readable(users, _check_user), _readable(groups, _check_group)
    ids = {str(user["userName"]): str(user["id"]) for user in users}
    active = {str(user["userName"]): _created(user) for user in users if user.get("active", True)}
    gone = (former.gone | former.ids.keys()) - ids.keys() if former else frozenset()
    return DirectorySnapshot(
        began,
        active,
        frozenset(ids.keys() - active.keys()),
        ids,
        frozenset(gone),
        _groups(groups, ids),
    )


def _groups(groups: list[Resource], ids: dict[str, str]) -> dict[str, frozenset[str]]:
    """Subject to the names of their groups. A provider names members by id, as SCIM says, or by
    name, as Canaille does.
    """
    subjects = {key: subject for subject, key in ids.items()}
    found: dict[str, set[str]] = {}
    for group in groups:
        for member in members(group):
            found.setdefault(subjects.get(member, member), set()).add(str(group["displayName"]))
    return {subject: frozenset(names) for subject, names in found.items() if subject in ids}


def members(group: Resource) -> list[str]:
    """Members of a SCIM group, each by what the provider names it."""
    return [str(member["value"]) for member in group.get("members") or []]


def _readable(records: Iterable[Resource], check: Callable[[Resource], object]) -> list[Resource]:
    found = []
    for record in records:
        try:
            check(record)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            log.warning(
                "a SCIM record is left out, it cannot be read (%s: %s): %.300r",
                type(error).__name__,
                error,
                record,
            )
        else:
            found.append(record)
    return found


def _check_user(user: Resource) -> None:
    _ = user["userName"], user["id"], user.get("active", True), _created(user)


def _check_group(group: Resource) -> None:
    _ = group["displayName"], members(group)


def _created(user: Resource) -> float:
    created = user.get("meta", {}).get("created")
    return float(int(datetime.fromisoformat(created).timestamp())) if created else 0.0
