"""Quotas of predictions a UTC day and month, exact across replicas without a question to the
database for each prediction.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import Forbidden, TooMany, Unavailable
from slipway_gateway.limits.ledger import LARGEST, Exhausted, Ledger
from slipway_gateway.limits.policy import Policy
from slipway_gateway.postgresql.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 600.0
IDLE_SECONDS = 5.0
"""What a caller does not use for so long is given back, for other replicas."""
REFUSED_SECONDS = 1.0
"""A refusal is not asked about again for so long."""
LOW = LARGEST // 4
"""Requests left of a lease when the next one is taken, so that nobody who calls often waits for it.
Towards a quota's end leases are smaller than this, and none is held ahead.
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, and the Unix time until which it may be spent."""

    lease_id: str
    requests: int
    until: float


class Account:
    """What this gateway may let through for one caller by one policy."""

    __slots__ = (
        "failed_at",
        "lease_id",
        "left",
        "lock",
        "next",
        "policy",
        "refusal",
        "refused_until",
        "until",
        "used",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.lease_id: str | None = None
        self.left = 0
        self.until = 0.0
        """Unix time of the lease's end."""
        self.next: Held | None = None
        """Taken before it is needed."""
        self.used = 0.0
        self.refusal: Exhausted | None = None
        self.refused_until = 0.0
        self.failed_at = 0.0
        """Unix time at which PostgreSQL was last found to be away."""
        self.lock = asyncio.Lock()


class Permit:
    """One request out of a quota. It goes back unless it was counted."""

    __slots__ = ("_account", "_counted", "_quotas", "lease_id")

    def __init__(self, quotas: "Quotas", account: Account, lease_id: str) -> None:
        self._quotas = quotas
        self._account = account
        self._counted = False
        self.lease_id = lease_id
        """Stands in the event of the prediction, so that the ledger knows what was paid for
        ahead.
        """

    def count(self) -> None:
        """An event with the lease is, or surely will be, in the spool."""
        self._counted = True

    def settle(self) -> None:
        """At the end of the request."""
        if not self._counted:
            self._counted = True
            self._quotas.put_back(self._account, self.lease_id)


class Quotas:
    """Leases of this process, by subject and policy."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accounts: dict[tuple[str, str], Account] = {}
        self._unspent: dict[str, int] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def take(self, subject: str, policy: Policy, now: float) -> Permit:
        """One request at this Unix time. Raises TooMany, or Unavailable when only PostgreSQL could
        tell.
        """
        key = (subject, policy.name)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(policy)
        if account.policy is not policy:
            self._adopt(account, policy)
        if not account.left or now >= account.until:
            await self._fill(account, subject, now)
        account.left -= 1
        account.used = now
        if account.left == LOW and account.next is None:
            task = asyncio.create_task(self._look_ahead(account, subject, now))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return Permit(self, account, account.lease_id or "")

    async def charge(
        self, connection: AsyncConnection, subject: str, policy: Policy, rows: int, now: datetime
    ) -> None:
        """Many predictions at once, all or none, in the caller's transaction.

        Raises Forbidden for more than a whole quota, TooMany for more than is left of it.
        """
        check_fits(policy, rows)
        found = await self._ledger.charge(connection, subject, policy, now.date(), rows)
        if found is not None:
            raise _refused(policy, found, now.timestamp(), rows)

    def _adopt(self, account: Account, policy: Policy) -> None:
        if (
            account.policy != policy
        ):  # the terms have changed: what was leased by the old ones goes back
            self._release(account)
            account.refused_until = 0
        account.policy = policy

    async def _fill(self, account: Account, subject: str, now: float) -> None:
        async with account.lock:
            if account.left and now < account.until:  # by whoever had the lock before
                return
            if (
                account.failed_at > now
            ):  # while this request waited: those that wait fail together, not one after the other
                raise Unavailable("your quota cannot be looked up now", retry_after=5)
            if account.refusal is not None and now < account.refused_until:
                raise _refused(account.policy, account.refusal, now)
            held = await self._next(account, subject, now)
            self._release(account)
            account.lease_id, account.left, account.until = held.lease_id, held.requests, held.until

    async def _next(self, account: Account, subject: str, now: float) -> Held:
        if account.next is not None and now < account.next.until:
            held, account.next = account.next, None
            return held
        try:
            found = await self._lease(account.policy, subject, now)
        except DatabaseUnavailable as error:
            account.failed_at = time.time()
            raise Unavailable("your quota cannot be looked up now", retry_after=5) from error
        if isinstance(found, Exhausted):
            account.refusal, account.refused_until = found, now + REFUSED_SECONDS
            raise _refused(account.policy, found, now)
        return found

    async def _look_ahead(self, account: Account, subject: str, now: float) -> None:
        """Take the next lease. If that fails, who needs it asks again, and is told."""
        async with account.lock:
            if account.next is not None:
                return
            policy = account.policy
            with suppress(DatabaseUnavailable):
                found = await self._lease(policy, subject, now)
                account.next = found if isinstance(found, Held) else None
            if account.policy != policy:  # meanwhile
                self._release(account)

    async def _lease(self, policy: Policy, subject: str, now: float) -> Held | Exhausted:
        """Raises DatabaseUnavailable."""
        found = await self._ledger.lease(subject, policy, datetime.fromtimestamp(now, UTC).date())
        if isinstance(found, Exhausted):
            return found
        return Held(
            found.lease_id, found.requests, min(now + LEASE_SECONDS, _midnight(now).timestamp())
        )

    def put_back(self, account: Account, lease_id: str) -> None:
        if account.lease_id == lease_id:
            account.left += 1
        else:
            self._unspent[lease_id] = self._unspent.get(lease_id, 0) + 1

    def _release(self, account: Account) -> None:
        if account.lease_id is not None and account.left:
            self._unspent[account.lease_id] = self._unspent.get(account.lease_id, 0) + account.left
        if account.next is not None:
            self._unspent[account.next.lease_id] = account.next.requests
        account.lease_id, account.left, account.next = None, 0, None

    async def keep(self) -> None:
        """Give back what nobody uses, for ever."""
        while True:
            await asyncio.sleep(REFUSED_SECONDS)
            now = datetime.now(UTC).timestamp()
            for key, account in list(self._accounts.items()):
                if now - account.used > IDLE_SECONDS and not account.lock.locked():
                    self._release(account)
                    del self._accounts[key]
            try:
                await self._give_back()
            except DatabaseUnavailable as error:
                log.warning("unspent requests are lost until their leases end: %s", error.cause)

    async def close(self) -> None:
        """Give back everything. Raises DatabaseUnavailable: then it is free again when the leases
        end.
        """
        for account in list(self._accounts.values()):
            async with account.lock:
                self._release(account)
        await self._give_back()

    async def _give_back(self) -> None:
        if not self._unspent:
            return
        # Not tried twice: it may have been done when its answer was lost, and given back twice it
        # would be spent twice.
        unspent, self._unspent = self._unspent, {}
        await self._ledger.give_back(unspent)


def _midnight(now: float) -> datetime:
    """The next one, UTC."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today + timedelta(days=1)


def check_fits(policy: Policy, rows: int) -> None:
    """Raises Forbidden when the quotas never have room for so many predictions."""
    for period, limit in policy.quotas.items():
        if limit < rows:
            raise Forbidden(
                f"the file has {rows} or more rows, and policy {policy.name} allows {limit} "
                f"predictions a {period}; "
                "send a smaller file, or ask an admin for another policy"
            )


def _refused(policy: Policy, found: Exhausted, now: float, rows: int = 1) -> TooMany:
    """When it is worth to come back: at the period's end, or soon when others may give back what
    they hold.
    """
    end = _midnight(now)
    begin = end - timedelta(days=1)
    quota = policy.quotas[found.period]
    if found.period == "month":
        begin = begin.replace(day=1)
        end = (begin + timedelta(days=32)).replace(day=1)
    rest, window = int(end.timestamp() - now) + 1, int((end - begin).total_seconds())
    fields = [
        (b"ratelimit-policy", f'"{found.period}";q={quota};w={window}'.encode()),
        (b"ratelimit", f'"{found.period}";r={found.left};t={rest}'.encode()),
    ]
    detail = f"the quota of {quota} requests a {found.period} is spent"
    if found.left:
        detail = (
            f"the file has {rows} rows, and the quota of {quota} requests a {found.period} has "
            f"{found.left} left"
        )
    return TooMany(detail, min(rest, int(IDLE_SECONDS) + 1) if found.held else rest, fields)
