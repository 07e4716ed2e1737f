"""``/v1/usage``: what a caller has used, from the ledger."""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BeforeValidator, Field

from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import Schema
from slipway_gateway.errors import Forbidden
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import Role
from slipway_gateway.limits.ledger import Ledger

# pydantic alone would take a number for seconds since 1970.
Day = Annotated[date, BeforeValidator(date.fromisoformat)]


class UsageEntry(Schema):
    """Predictions of one UTC day by one policy that were answered, and not by a failure of the
    server.
    """

    day: date
    policy: str
    requests: int


class UsageAnswer(Schema):
    """By day, the first one first."""

    subject: str
    total: int = Field(description="sum of the entries")
    entries: list[UsageEntry]


class Usage:
    """The route."""

    def __init__(self, ledger: Ledger, shipper: Shipper) -> None:
        self._ledger = ledger
        self._shipper = shipper

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", responses=PROBLEMS)
        router.get("/usage", summary="What I have used")(self.usage)
        return router

    async def usage(
        self,
        context: CurrentCall,
        subject: Annotated[
            str | None,
            Query(
                max_length=210,
                description=(
                    "whose, for admins: `user:ada` or `client:nightly`; a bare name is a "
                    "person's. Your own without it"
                ),
            ),
        ] = None,
        first: Annotated[
            Day | None, Query(description="first UTC day; without it the first of this month")
        ] = None,
        last: Annotated[Day | None, Query(description="last UTC day; without it today")] = None,
    ) -> UsageAnswer:
        caller, today = context.caller, datetime.now(UTC).date()
        whose = caller.subject if subject is None else subjects.read(subject)
        if whose != caller.subject and Role.ADMIN not in caller.roles:
            raise Forbidden(
                "the usage of others is for the role admin; leave out subject to see your own"
            )
        await self._shipper.flush()
        rows = await self._ledger.usage(whose, first or today.replace(day=1), last or today)
        entries = [
            UsageEntry(day=row.day, policy=row.policy, requests=row.requests) for row in rows
        ]
        return UsageAnswer(
            subject=whose, total=sum(entry.requests for entry in entries), entries=entries
        )
