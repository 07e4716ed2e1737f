"""The accounts and groups of the identity provider, read periodically.

They invalidate tokens of deleted accounts and groups before the tokens expire.
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
    """The accounts and groups at one time."""

    began: float
    """Unix time at which the read started."""
    active: dict[str, float] = field(default_factory=dict)
    """Subject to Unix time of the account's creation, in whole seconds as in tokens."""
    disabled: frozenset[str] = frozenset()
    ids: dict[str, str] = field(default_factory=dict)
    """Subject to SCIM id."""
    gone: frozenset[str] = frozenset()
    """Subjects of earlier snapshots that no longer exist."""
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    """Subject to names of groups, for subjects with at least one group."""


class Accounts:
    """The current accounts. The last snapshot remains in use while the provider is unavailable."""

    def __init__(self, scim: Scim, *, seconds: float, leeway: float) -> None:
        self.scim = scim
        self._seconds = seconds
        self._leeway = leeway
        self._snapshot: DirectorySnapshot | None = None
        self._lock = asyncio.Lock()
        self.problem: str | None = "the accounts of the identity provider are not read yet"
        """Error of the last read; None after a successful one."""

    @property
    def known(self) -> bool:
        return self._snapshot is not None

    @property
    def age(self) -> float:
        """Seconds since the last successful read; infinite before the first one."""
        return time.time() - self._snapshot.began if self._snapshot else float("inf")

    @property
    def names(self) -> dict[str, str]:
        """SCIM id to subject, from the last successful read."""
        ids = self._snapshot.ids if self._snapshot else {}
        return {key: subject for subject, key in ids.items()}

    def confirm(self, caller: Caller) -> Caller:
        """Return the caller restricted to the groups in both the token and the last snapshot.

        A token issued after the snapshot is newer: its groups apply until the next read, also for
        an account that the snapshot does not contain. Service accounts are not users of the
        provider and are returned unchanged. Raises Unavailable before the first read, and
        Unauthenticated if the account is disabled, deleted, or newer than the token, which then
        belongs to a deleted account of the same name.
        """
        if Role.SERVICE in caller.roles:
            return caller
        snapshot = self._snapshot
        if snapshot is None:
            raise Unavailable(
                "the accounts are not loaded yet: the identity provider has not responded; "
                "retry later"
            )
        created = snapshot.active.get(caller.account)
        if created is not None and caller.issued >= created:
            if caller.issued > snapshot.began:
                return caller
            return caller.within(snapshot.groups.get(caller.account, NO_GROUPS))
        if caller.account in snapshot.disabled:
            raise Unauthenticated("the account is disabled")
        if created is not None:
            raise Unauthenticated("the token is older than the account")
        if caller.account in snapshot.gone or caller.issued < snapshot.began - self._leeway:
            raise Unauthenticated("the account no longer exists")
        return caller

    async def confirm_now(self, caller: Caller) -> Caller:
        """Return the caller restricted to the groups that the provider confirms now.

        Changes of permissions use this, so that a caller cannot restore a permission that was
        revoked since the last read. Raises Unauthenticated, Unavailable, and Forbidden if the
        account is disabled or deleted.
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
        """Read the accounts periodically until cancelled, with a short period after an error."""
        while True:
            try:
                await self.refresh()
            except Unavailable:
                await asyncio.sleep(min(self._seconds, RETRY_SECONDS))
            else:
                await asyncio.sleep(self._seconds)

    async def refresh(self) -> DirectorySnapshot:
        """Read the accounts and return the new snapshot. Raises Unavailable."""
        async with self._lock:
            began = time.time()
            try:
                users = [each async for each in self.scim.all("Users", ATTRIBUTES)]
                groups = [each async for each in self.scim.all("Groups", GROUP_ATTRIBUTES)]
                self._snapshot = snapshot = _snapshot(began, users, groups, self._snapshot)
            except (Unavailable, NotFound) as error:
                if str(error) != self.problem:
                    log.warning("the accounts of %.0f s ago remain in use: %s", self.age, error)
                self.problem = str(error)
                raise Unavailable(str(error)) from None
            self.problem = None
            return snapshot

    async def id_of(self, subject: str) -> str:
        """Return the SCIM id of an account, after a read if the account is unknown.

        Raises NotFound, Unavailable.
        """
        snapshot = self._snapshot
        if snapshot is None or subject not in snapshot.ids:
            snapshot = await self.refresh()
        if subject not in snapshot.ids:
            raise NotFound(f"user {subject} does not exist")
        return snapshot.ids[subject]


def _snapshot(
    began: float, users: list[Resource], groups: list[Resource], former: DirectorySnapshot | None
) -> DirectorySnapshot:
    """Return the snapshot of SCIM users and groups; ``former`` is the previous snapshot.

    An invalid record is omitted, so that it rejects its account and does not affect others.
    """
    users, groups = _valid(users, _check_user), _valid(groups, _check_group)
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
    """Return the names of groups by subject.

    A provider identifies members by id, as SCIM requires, or by name, as Canaille does.
    """
    subjects = {key: subject for subject, key in ids.items()}
    found: dict[str, set[str]] = {}
    for group in groups:
        for member in members(group):
            found.setdefault(subjects.get(member, member), set()).add(str(group["displayName"]))
    return {subject: frozenset(names) for subject, names in found.items() if subject in ids}


def members(group: Resource) -> list[str]:
    """Return the members of a SCIM group, each by the identifier that the provider uses."""
    return [str(member["value"]) for member in group.get("members") or []]


def _valid(records: Iterable[Resource], check: Callable[[Resource], object]) -> list[Resource]:
    found = []
    for record in records:
        try:
            check(record)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            log.warning(
                "a SCIM record is ignored, it is invalid (%s: %s): %.300r",
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
