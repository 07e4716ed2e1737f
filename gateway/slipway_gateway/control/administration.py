"""What administrators have under ``/v1``: policies, grants, and the audit of who changed them."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, ConfigDict, Field, ValidationError
from sqlalchemy import Row

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.store import AccessStore
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.limits.policy import Priority
from slipway_gateway.requestid import new_id

log = logging.getLogger(__name__)

T = TypeVar("T")
Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class PolicyTerms(RequestSchema):
    """How much of a model its grantees may have."""

    model_config = ConfigDict(extra="forbid")

    requests_per_day: Count | None = Field(
        default=None, description="predictions of one caller a UTC day; null: without end"
    )
    requests_per_month: Count | None = Field(default=None, description="the same for a UTC month")
    predictions_per_minute: Annotated[int, Field(ge=1, le=10**7, strict=True)] | None = Field(
        default=None, description="rate of one caller; null: the gateway's own"
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="who goes first where there is a queue"
    )
    cache_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None,
        description="age up to which an answer may come from the cache; null: each is computed",
    )


class PolicyContent(PolicyTerms):
    """A policy and its name."""

    name: str = Field(pattern=NAME, examples=["trial"])


class PolicyList(Schema):
    """All policies, by name."""

    policies: list[PolicyContent]


class GrantTerms(RequestSchema):
    """A policy for a user, a group or a client, at the models of a name or a glob."""

    model_config = ConfigDict(extra="forbid")

    grantee: str = Field(
        pattern=r"^(user|group|client):[^\x00-\x1f\x7f]{1,200}$",
        examples=["group:scientist"],
        description=(
            "user: the token's `sub`; group: one of its `groups`; client: the id of a service "
            "account"
        ),
    )
    models: str = Field(
        pattern=r"^[a-z0-9*?-]{1,80}$",
        examples=["heart", "heart-*"],
        description="a name, or a glob with * and ?",
    )
    policy: str = Field(pattern=NAME, examples=["default"])
    expires: AwareDatetime | None = Field(default=None, description="end of the grant; null: none")


class GrantContent(GrantTerms):
    """A grant as it is."""

    grant_id: str
    created: datetime


class GrantList(Schema):
    """All grants."""

    grants: list[GrantContent]


class AuditEntry(Schema):
    """Who did what."""

    number: int
    time: datetime
    subject: str = Field(description="who did it: `user:ada`")
    address: str | None = Field(description="whence; of IPv6 the /64")
    request_id: str
    action: str = Field(examples=["grant.create"])
    thing: str = Field(description="what it was done to, its path under /v1", examples=["grants/…"])
    detail: Any


class AuditList(Schema):
    """The newest entries first."""

    entries: list[AuditEntry]


class Administration:
    """The routes. A change holds on every replica within a second: PostgreSQL tells them."""

    def __init__(self, policies: AccessStore, grants: AccessStore, audit: Audit) -> None:
        self._policies = policies
        self._grants = grants
        self._audit = audit

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", responses=PROBLEMS)
        router.get("/policies", summary="All policies")(self.policies)
        router.post("/policies", status_code=201, summary="Make a policy")(self.create_policy)
        router.get("/policies/{policy}", summary="One policy")(self.policy)
        router.put("/policies/{policy}", summary="Change a policy")(self.replace_policy)
        router.delete(
            "/policies/{policy}", status_code=204, summary="Delete a policy that no grant names"
        )(self.delete_policy)
        router.get("/grants", summary="All grants")(self.grants)
        router.post("/grants", status_code=201, summary="Grant models")(self.create_grant)
        router.get("/grants/{grant_id}", summary="One grant")(self.grant)
        router.put("/grants/{grant_id}", summary="Change a grant")(self.replace_grant)
        router.delete("/grants/{grant_id}", status_code=204, summary="Revoke a grant")(
            self.delete_grant
        )
        router.get("/audit", summary="Who did what")(self.audit)
        return router

    async def policies(self) -> PolicyList:
        return PolicyList(policies=_readable(await self._policies.all(), _policy))

    async def policy(self, policy: str) -> PolicyContent:
        return _policy(await self._policies.one(policy))

    async def create_policy(
        self, said: PolicyContent, context: CurrentCall, response: Response
    ) -> PolicyContent:
        response.headers["location"] = f"/v1/policies/{said.name}"
        return _policy(await self._policies.create(context, said.model_dump(), _shown(said)))

    async def replace_policy(
        self, policy: str, said: PolicyTerms, context: CurrentCall
    ) -> PolicyContent:
        return _policy(
            await self._policies.replace(context, policy, said.model_dump(), _shown(said))
        )

    async def delete_policy(self, policy: str, context: CurrentCall) -> None:
        await self._policies.delete(context, policy)

    async def grants(
        self, grantee: Annotated[str | None, Query(max_length=210)] = None
    ) -> GrantList:
        rows = await (self._grants.all() if grantee is None else self._grants.all(grantee=grantee))
        return GrantList(grants=_readable(rows, _grant))

    async def grant(self, grant_id: str) -> GrantContent:
        return _grant(await self._grants.one(grant_id))

    async def create_grant(
        self, said: GrantTerms, context: CurrentCall, response: Response
    ) -> GrantContent:
        values = {"grant_id": new_id(), "created": datetime.now(UTC), **said.model_dump()}
        response.headers["location"] = f"/v1/grants/{values['grant_id']}"
        return _grant(await self._grants.create(context, values, _shown(said)))

    async def replace_grant(
        self, grant_id: str, said: GrantTerms, context: CurrentCall
    ) -> GrantContent:
        return _grant(
            await self._grants.replace(context, grant_id, said.model_dump(), _shown(said))
        )

    async def delete_grant(self, grant_id: str, context: CurrentCall) -> None:
        await self._grants.delete(context, grant_id)

    async def audit(
        self,
        before: Annotated[
            int | None, Query(ge=1, le=2**62, description="number of the last entry seen")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditList:
        rows = await self._audit.entries(before=before, limit=limit)
        return AuditList(entries=[AuditEntry.model_validate(row._asdict()) for row in rows])


def _readable(rows: Sequence[Row[Any]], read: Callable[[Row[Any]], T]) -> list[T]:
    """The rows that can be read: an administrator needs the list most when one of them cannot."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except ValidationError as error:
            log.warning("the row %s is left out of a list, it cannot be read: %s", row[0], error)
    return found


def _policy(row: Row[Any]) -> PolicyContent:
    return PolicyContent.model_validate(row._asdict())


def _grant(row: Row[Any]) -> GrantContent:
    return GrantContent.model_validate(row._asdict())


def _shown(said: Schema) -> dict[str, Any]:
    return said.model_dump(mode="json", by_alias=True)
