"""Administration under ``/v1``: policies, grants and the audit of changes."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Response
from pydantic import AwareDatetime, ConfigDict, Field, ValidationError
from sqlalchemy import Row

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ADMINS, Permission
from slipway_gateway.access.store import AccessStore
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.limits.policy import Priority
from slipway_gateway.requestid import new_id

log = logging.getLogger(__name__)

T = TypeVar("T")
Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]
NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class PolicyTerms(RequestSchema):
    """Limits, priority and caching for the grantees of a model."""

    model_config = ConfigDict(extra="forbid")

    requests_per_day: Count | None = Field(
        default=None, description="predictions of one caller in a UTC day; null: unlimited"
    )
    requests_per_month: Count | None = Field(
        default=None, description="predictions of one caller in a UTC month; null: unlimited"
    )
    predictions_per_minute: Annotated[int, Field(ge=1, le=10**7, strict=True)] | None = Field(
        default=None, description="rate of one caller; null: the default of the gateway"
    )
    priority: Priority = Field(
        default=Priority.NORMAL, description="priority in the admission and task queues"
    )
    cache_seconds: Annotated[int, Field(ge=1, le=86400)] | None = Field(
        default=None,
        description="maximum age of a response from the cache; null: the cache is not used",
    )


class PolicyContent(PolicyTerms):
    """A policy."""

    name: str = Field(pattern=NAME, examples=["trial"])


class PolicyList(Schema):
    """All policies, sorted by name."""

    policies: list[PolicyContent]


class GrantTerms(RequestSchema):
    """A policy that applies to a user, group or client for the models that match a name or glob."""

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
    expires: AwareDatetime | None = Field(
        default=None, description="end of the grant; null: it does not expire"
    )


class GrantContent(GrantTerms):
    """A stored grant."""

    grant_id: str
    created: datetime


class GrantList(Schema):
    """All grants."""

    grants: list[GrantContent]


class AuditEntry(Schema):
    """A change with its author."""

    number: int
    time: datetime
    subject: str = Field(description="caller that made the change: `user:ada`")
    address: str | None = Field(description="client address; for IPv6 the /64 network")
    request_id: str
    action: str = Field(examples=["grant.create"])
    thing: str = Field(
        description="the changed resource, as a path under /v1", examples=["grants/…"]
    )
    detail: Any


class AuditList(Schema):
    """Audit entries, newest first."""

    entries: list[AuditEntry]


class Administration:
    """The administration routes.

    A change takes effect on every replica within a second, through PostgreSQL notifications.
    """

    def __init__(self, policies: AccessStore, grants: AccessStore, audit: Audit) -> None:
        self._policies = policies
        self._grants = grants
        self._audit = audit

    def routers(self) -> list[Router]:
        read = Permission("administer", ADMINS)
        write = Permission("administer", ADMINS, confirmed=True)
        policies = Router(prefix="/v1/policies", responses=PROBLEMS, tags=["policies"])
        policies.add("GET", self.list_policies, read, summary="List policies")
        policies.add("POST", self.create_policy, write, status_code=201, summary="Create a policy")
        policies.add("GET /{policy}", self.get_policy, read, summary="Return a policy")
        policies.add("PUT /{policy}", self.replace_policy, write, summary="Replace a policy")
        policies.add(
            "DELETE /{policy}",
            self.delete_policy,
            write,
            status_code=204,
            summary="Delete a policy without grants",
        )
        grants = Router(prefix="/v1/grants", responses=PROBLEMS, tags=["grants"])
        grants.add("GET", self.list_grants, read, summary="List grants")
        grants.add("POST", self.create_grant, write, status_code=201, summary="Create a grant")
        grants.add("GET /{grant_id}", self.get_grant, read, summary="Return a grant")
        grants.add("PUT /{grant_id}", self.replace_grant, write, summary="Replace a grant")
        grants.add(
            "DELETE /{grant_id}",
            self.delete_grant,
            write,
            status_code=204,
            summary="Delete a grant",
        )
        audit = Router(prefix="/v1/audit", responses=PROBLEMS, tags=["audit"])
        audit.add(
            "GET",
            self.list_audit_entries,
            Permission("audit", ADMINS),
            summary="List audit entries",
        )
        return [policies, grants, audit]

    async def list_policies(self) -> PolicyList:
        return PolicyList(policies=_valid(await self._policies.all(), _policy))

    async def get_policy(self, policy: str) -> PolicyContent:
        return _policy(await self._policies.one(policy))

    async def create_policy(
        self, body: PolicyContent, context: CurrentContext, response: Response
    ) -> PolicyContent:
        response.headers["location"] = f"/v1/policies/{body.name}"
        return _policy(await self._policies.create(context, body.model_dump(), _shown(body)))

    async def replace_policy(
        self, policy: str, terms: PolicyTerms, context: CurrentContext
    ) -> PolicyContent:
        return _policy(
            await self._policies.replace(context, policy, terms.model_dump(), _shown(terms))
        )

    async def delete_policy(self, policy: str, context: CurrentContext) -> None:
        await self._policies.delete(context, policy)

    async def list_grants(
        self, grantee: Annotated[str | None, Query(max_length=210)] = None
    ) -> GrantList:
        rows = await (self._grants.all() if grantee is None else self._grants.all(grantee=grantee))
        return GrantList(grants=_valid(rows, _grant))

    async def get_grant(self, grant_id: str) -> GrantContent:
        return _grant(await self._grants.one(grant_id))

    async def create_grant(
        self, terms: GrantTerms, context: CurrentContext, response: Response
    ) -> GrantContent:
        values = {"grant_id": new_id(), "created": datetime.now(UTC), **terms.model_dump()}
        response.headers["location"] = f"/v1/grants/{values['grant_id']}"
        return _grant(await self._grants.create(context, values, _shown(terms)))

    async def replace_grant(
        self, grant_id: str, terms: GrantTerms, context: CurrentContext
    ) -> GrantContent:
        return _grant(
            await self._grants.replace(context, grant_id, terms.model_dump(), _shown(terms))
        )

    async def delete_grant(self, grant_id: str, context: CurrentContext) -> None:
        await self._grants.delete(context, grant_id)

    async def list_audit_entries(
        self,
        before: Annotated[
            int | None, Query(ge=1, le=2**62, description="return only entries below this number")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditList:
        rows = await self._audit.entries(before=before, limit=limit)
        return AuditList(entries=[AuditEntry.model_validate(row._asdict()) for row in rows])


def _valid(rows: Sequence[Row[Any]], parse: Callable[[Row[Any]], T]) -> list[T]:
    """Return the parsed rows without the invalid ones, which are logged.

    An invalid row must not prevent the list that an administrator needs in order to correct it.
    """
    found = []
    for row in rows:
        try:
            found.append(parse(row))
        except ValidationError as error:
            log.warning("the list omits the row %s, which is invalid: %s", row[0], error)
    return found


def _policy(row: Row[Any]) -> PolicyContent:
    return PolicyContent.model_validate(row._asdict())


def _grant(row: Row[Any]) -> GrantContent:
    return GrantContent.model_validate(row._asdict())


def _shown(terms: Schema) -> dict[str, Any]:
    return terms.model_dump(mode="json", by_alias=True)
