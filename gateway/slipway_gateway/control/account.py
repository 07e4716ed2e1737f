"""The caller under ``/v1/me``: roles, grants, and what is left of quotas."""

from contextlib import suppress
from datetime import UTC, datetime

from pydantic import Field

from slipway_gateway.access.grants import Grant
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SIGNED_IN, Permission
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.http.schema import Schema
from slipway_gateway.limits.ledger import Ledger
from slipway_gateway.limits.quotas import period_bounds
from slipway_gateway.postgresql.database import DatabaseUnavailable


class MyGrant(Schema):
    """A grant of the caller or of one of its groups."""

    models: str = Field(description="a name, or a glob")
    policy: str
    expires: datetime | None


class MyLimit(Schema):
    """A quota of the caller under a policy."""

    policy: str
    period: str = Field(description="`day` or `month`, in UTC")
    limit: int
    used: int
    remaining: int
    reset_at: datetime = Field(description="end of the period")


class Me(Schema):
    """The caller, from the token, with its grants and quotas."""

    subject: str = Field(
        description=(
            "name of the caller in receipts, usage, grants and the audit: `user:ada` or "
            "`client:nightly`"
        )
    )
    account: str = Field(description="`sub` of the token")
    name: str | None
    groups: list[str]
    roles: list[str]
    expires: datetime
    grants: list[MyGrant] | None = Field(description="null until the gateway has read the grants")
    limits: list[MyLimit] | None = Field(
        description="quotas of these grants; null while the database is unavailable"
    )


class Account:
    """The route of the caller."""

    def __init__(self, grants: GrantWatch, ledger: Ledger, shipper: Shipper) -> None:
        self._grants = grants
        self._ledger = ledger
        self._shipper = shipper

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS, tags=["account"])
        router.add(
            "GET /me",
            self.get_me,
            Permission("me", SIGNED_IN),
            summary="Return your account, roles, grants and quotas",
        )
        return router

    async def get_me(self, context: CurrentContext) -> Me:
        caller, grants, limits = context.caller, None, None
        if self._grants.known:
            grants = self._grants.snapshot.of(caller, context.arrived)
            with suppress(DatabaseUnavailable):  # the rest is from the token and from memory
                limits = await self._limits(caller.subject, grants, context.arrived)
        return Me(
            subject=caller.subject,
            account=caller.account,
            name=caller.name,
            groups=list(caller.groups),
            roles=sorted(caller.roles),
            expires=datetime.fromtimestamp(caller.expires, UTC),
            grants=None if grants is None else [_described(grant) for grant in grants],
            limits=limits,
        )

    async def _limits(self, subject: str, grants: list[Grant], now: float) -> list[MyLimit]:
        """Return the quotas by policy. Raises DatabaseUnavailable."""
        policies = {each.policy.name: each.policy for each in grants if each.policy.is_metered}
        if not policies:
            return []
        await self._shipper.flush()  # the ledger then has the requests of this gateway
        today = datetime.fromtimestamp(now, UTC).date()
        used = await self._ledger.used(subject, sorted(policies), today)
        return [
            MyLimit(
                policy=name,
                period=period,
                limit=limit,
                used=used.get((name, period), 0),
                remaining=max(0, limit - used.get((name, period), 0)),
                reset_at=period_bounds(period, now)[1],
            )
            for name, policy in sorted(policies.items())
            for period, limit in policy.quotas.items()
        ]


def _described(grant: Grant) -> MyGrant:
    is_limited = grant.expires != float("inf")
    expires = datetime.fromtimestamp(grant.expires, UTC) if is_limited else None
    return MyGrant(models=grant.models, policy=grant.policy.name, expires=expires)
