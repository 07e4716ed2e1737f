"""Quotas of predictions in a UTC day and month, exact across replicas through leases.

Most predictions need no database query.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import Forbidden, TooMany, Unavailable
from slipway_gateway.limits.ledger import LARGEST, Exhausted, Ledger, month_of
from slipway_gateway.limits.policy import Policy
from slipway_gateway.postgresql.database import DatabaseUnavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 600.0
IDLE_SECONDS = 5.0
"""Seconds without a request after which a lease is returned for other replicas."""
REFUSED_SECONDS = 1.0
"""Seconds for which an exhausted quota is cached."""
LOW = LARGEST // 4
"""Number of requests left at which the next lease is taken in advance.

Leases near the end of a quota are smaller, so that none is taken in advance.
"""


UNAVAILABLE = "your quota cannot be read, PostgreSQL is unavailable; retry later"


@dataclass(frozen=True, slots=True)
class Held:
    """A lease and the Unix time until which it is valid."""

    lease_id: str
    requests: int
    until: float


class Account:
    """The leases of one caller under one policy at this gateway."""

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
        """Lease taken in advance."""
        self.used = 0.0
        self.refusal: Exhausted | None = None
        self.refused_until = 0.0
        self.failed_at = 0.0
        """Unix time at which PostgreSQL was last unavailable."""
        self.lock = asyncio.Lock()


class Permit:
    """One request of a quota, returned at the end of its context unless it was counted."""

    __slots__ = ("_account", "_counted", "_quotas", "lease_id")

    def __init__(self, quotas: "Quotas", account: Account, lease_id: str) -> None:
        self._quotas = quotas
        self._account = account
        self._counted = False
        self.lease_id = lease_id
        """Id of the lease; the event of the prediction contains it for the ledger."""

    def count(self) -> None:
        """Mark the request as spent: the spool contains an event with the lease, or will."""
        self._counted = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Return the request to its lease unless it was counted."""
        if not self._counted:
            self._counted = True
            self._quotas.restore(self._account, self.lease_id)


class Quotas:
    """Leases of this process, by subject and policy."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._accounts: dict[tuple[str, str], Account] = {}
        self._unspent: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, subject: str, policy: Policy, now: float) -> Permit:
        """Take one request at ``now`` (Unix time).

        Raises TooMany, and Unavailable if a lease is needed while PostgreSQL is unavailable.
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
            task = asyncio.create_task(self._prefetch(account, subject, now))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return Permit(self, account, account.lease_id or "")

    async def charge(
        self, connection: AsyncConnection, subject: str, policy: Policy, rows: int, now: datetime
    ) -> None:
        """Charge all predictions of a batch or none, in the given transaction.

        Raises Forbidden for more rows than the quota, TooMany for more rows than its remainder.
        """
        check_fits(policy, rows)
        found = await self._ledger.charge(connection, subject, policy, now.date(), rows)
        if found is not None:
            raise _refused(policy, found, now.timestamp(), rows)

    def _adopt(self, account: Account, policy: Policy) -> None:
        if account.policy != policy:  # leases under the previous terms are returned
            self._release(account)
            account.refused_until = 0
        account.policy = policy

    async def _fill(self, account: Account, subject: str, now: float) -> None:
        async with account.lock:
            if account.left and now < account.until:  # the previous lock holder took a lease
                return
            if account.failed_at > now:  # all waiting requests fail with the one that timed out
                raise Unavailable(UNAVAILABLE, retry_after=5)
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
            raise Unavailable(UNAVAILABLE, retry_after=5) from error
        if isinstance(found, Exhausted):
            account.refusal, account.refused_until = found, now + REFUSED_SECONDS
            raise _refused(account.policy, found, now)
        return found

    async def _prefetch(self, account: Account, subject: str, now: float) -> None:
        """Take the next lease in advance; after an error, the request that needs it tries again."""
        async with account.lock:
            if account.next is not None:
                return
            policy = account.policy
            with suppress(DatabaseUnavailable):
                found = await self._lease(policy, subject, now)
                account.next = found if isinstance(found, Held) else None
            if account.policy != policy:  # it has changed during the query
                self._release(account)

    async def _lease(self, policy: Policy, subject: str, now: float) -> Held | Exhausted:
        """Take a lease that ends at the next UTC midnight at the latest.

        Raises DatabaseUnavailable.
        """
        found = await self._ledger.lease(subject, policy, datetime.fromtimestamp(now, UTC).date())
        if isinstance(found, Exhausted):
            return found
        return Held(
            found.lease_id, found.requests, min(now + LEASE_SECONDS, _midnight(now).timestamp())
        )

    def restore(self, account: Account, lease_id: str) -> None:
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
        """Return idle leases periodically until cancelled."""
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
                log.warning(
                    "unspent requests are not available until their leases expire: %s", error.cause
                )

    async def close(self) -> None:
        """Return all leases. Raises DatabaseUnavailable; the leases then expire by themselves."""
        for account in list(self._accounts.values()):
            async with account.lock:
                self._release(account)
        await self._give_back()

    async def _give_back(self) -> None:
        if not self._unspent:
            return
        # Without retry: the statement may have succeeded before the connection failed, and a
        # second return would allow the requests twice.
        unspent, self._unspent = self._unspent, {}
        await self._ledger.give_back(unspent)


def _midnight(now: float) -> datetime:
    """Return the next midnight in UTC."""
    return period_bounds("day", now)[1]


def period_bounds(period: str, now: float) -> tuple[datetime, datetime]:
    """Return begin and end of the current day or month in UTC."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return month_of(today) if period == "month" else (today, today + timedelta(days=1))


def check_fits(policy: Policy, rows: int) -> None:
    """Raise Forbidden if the number of rows exceeds a whole quota of the policy."""
    for period, limit in policy.quotas.items():
        if limit < rows:
            raise Forbidden(
                f"the file has {rows} or more rows, and policy {policy.name} allows {limit} "
                f"predictions a {period}; send a smaller file or ask an admin for another policy"
            )


def _refused(policy: Policy, found: Exhausted, now: float, rows: int = 1) -> TooMany:
    """Return the error of an exhausted quota.

    Its retry time is the end of the period, or a few seconds while other gateways hold leases.
    """
    begin, end = period_bounds(found.period, now)
    quota = policy.quotas[found.period]
    rest, window = int(end.timestamp() - now) + 1, int((end - begin).total_seconds())
    fields = [
        (b"ratelimit-policy", f'"{found.period}";q={quota};w={window}'.encode()),
        (b"ratelimit", f'"{found.period}";r={found.left};t={rest}'.encode()),
    ]
    detail = f"your quota of {quota} predictions a {found.period} is exhausted"
    if found.left:
        detail = (
            f"the file has {rows} rows, and {found.left} of your {quota} predictions a "
            f"{found.period} are left; send a smaller file"
        )
    return TooMany(detail, min(rest, int(IDLE_SECONDS) + 1) if found.held else rest, fields)
