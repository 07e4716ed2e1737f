"""Which accounts the identity provider has, looked at from time to time: a token outlives its account, our answers must not."""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import datetime

from slipway_gateway.errors import NotFound, Unauthenticated, Unavailable
from slipway_gateway.identity.roles import Role
from slipway_gateway.identity.scim import Resource, Scim
from slipway_gateway.identity.tokens import Caller

log = logging.getLogger(__name__)

ATTRIBUTES = "userName,active,meta.created"
RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Look:
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


class Accounts:
    """While the provider is away the last look stays: nobody can be disabled there meanwhile, and known people keep working."""

    def __init__(self, scim: Scim, *, seconds: float, leeway: float) -> None:
        self.scim = scim
        self._seconds = seconds
        self._leeway = leeway
        self._look: Look | None = None
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

    def check(self, caller: Caller) -> None:
        """Raise Unauthenticated if the caller's account is disabled, gone, or younger than the token: another's of the same name.

        A service account is none of the provider's users. One who is not known yet came after the last look, if the token did.
        """
        look = self._look
        if look is not None and (made := look.active.get(caller.subject)) is not None and caller.issued >= made:
            return
        if Role.SERVICE in caller.roles:
            return
        if look is None:
            raise Unavailable("the accounts are not known yet: the identity provider has not answered")
        if caller.subject in look.disabled:
            raise Unauthenticated("the account is disabled")
        if caller.subject in look.active:
            raise Unauthenticated("the token is older than the account")
        if caller.subject in look.gone or caller.issued < look.began - self._leeway:
            raise Unauthenticated("the account does not exist any more")

    async def keep(self) -> None:
        """Look now and then, for ever."""
        while True:
            try:
                await self.look()
            except Unavailable:
                await asyncio.sleep(min(self._seconds, RETRY_SECONDS))
            else:
                await asyncio.sleep(self._seconds)

    async def look(self) -> Look:
        """Look now, whoever waits for it. Raises Unavailable."""
        async with self._lock:
            began = time.time()
            try:
                self._look = look = _read(began, [each async for each in self.scim.all("Users", ATTRIBUTES)], self._look)
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


def _read(began: float, users: list[Resource], former: Look | None) -> Look:
    ids = {str(user["userName"]): str(user["id"]) for user in users}
    active = {str(user["userName"]): _created(user) for user in users if user.get("active", True)}
    gone = (former.gone | former.ids.keys()) - ids.keys() if former else frozenset()
    return Look(began, active, frozenset(ids.keys() - active.keys()), ids, frozenset(gone))


def _created(user: Resource) -> float:
    created = user.get("meta", {}).get("created")
    return float(int(datetime.fromisoformat(created).timestamp())) if created else 0.0
