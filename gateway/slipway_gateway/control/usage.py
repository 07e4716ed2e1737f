"""Usage of a caller under ``/v1/usage``, from the ledger."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import Query
from pydantic import BeforeValidator, Field

from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission
from slipway_gateway.errors import Forbidden
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.http.schema import Schema
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import Role
from slipway_gateway.limits.ledger import Ledger

# pydantic parses a number as seconds since 1970; the API accepts ISO 8601 only.
Day = Annotated[date, BeforeValidator(date.fromisoformat)]


class UsageEntry(Schema):
    """The number of predictions in one UTC day under one policy, without server errors."""

    day: date
    policy: str
    requests: int


class UsageAnswer(Schema):
    """Usage entries, oldest day first."""

    subject: str
    total: int = Field(description="sum of the entries")
    entries: list[UsageEntry]


class Usage:
    """The usage route."""

    def __init__(self, ledger: Ledger, shipper: Shipper) -> None:
        self._ledger = ledger
        self._shipper = shipper

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS, tags=["usage"])
        router.add(
            "GET /usage",
            self.get_usage,
            Permission("usage", ALL),
            summary="Return your usage by day and policy",
        )
        return router

    async def get_usage(
        self,
        context: CurrentContext,
        subject: Annotated[
            str | None,
            Query(
                max_length=210,
                description=(
                    "another caller, for admins: `user:ada` or `client:nightly`; a name without "
                    "prefix is a user; default: yourself"
                ),
            ),
        ] = None,
        first: Annotated[
            Day | None, Query(description="first UTC day; default: the first day of this month")
        ] = None,
        last: Annotated[Day | None, Query(description="last UTC day; default: today")] = None,
    ) -> UsageAnswer:
        caller, today = context.caller, datetime.now(UTC).date()
        requested = caller.subject if subject is None else subjects.read(subject)
        if requested != caller.subject and Role.ADMIN not in caller.roles:
            raise Forbidden("subject requires the role admin; omit it to get your own usage")
        await self._shipper.flush()
        rows = await self._ledger.usage(requested, first or today.replace(day=1), last or today)
        entries = [
            UsageEntry(day=row.day, policy=row.policy, requests=row.requests) for row in rows
        ]
        return UsageAnswer(
            subject=requested, total=sum(entry.requests for entry in entries), entries=entries
        )
