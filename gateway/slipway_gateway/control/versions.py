"""Versions of a model under ``/v1``, with their scores and what the gate decided about them.

Jobs copy them from MLflow to PostgreSQL, so that the gateway does not depend on MLflow (decision
40). Role and share are those of the Model's status. A version that is served appears in the list
even before a Job has copied it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Response
from pydantic import Field
from slipway_contract.model import VersionNumber
from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import distinct_on

from slipway_gateway.access.route import PROBLEMS, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission
from slipway_gateway.errors import NotFound
from slipway_gateway.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from slipway_gateway.http.cursor import PAGE, Cursor, Limit, cursor_of, number_of
from slipway_gateway.http.schema import Schema
from slipway_gateway.inference.routing import Route, Routes
from slipway_gateway.inference.schemas import Dataset
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import registered_versions, version_promotions

MOST_PROMOTIONS = 100
MAX_NUMBER = 2**31 - 1
VERSION = registered_versions.c
PROMOTION = version_promotions.c
LISTED = [column for column in VERSION if column.name != "confusion_matrix"]
Version = Annotated[VersionNumber, Path(description="version of the registered model")]


class MetricValue(Schema):
    """A score on held-out rows."""

    value: float | None
    baseline: float | None = Field(description="score of the strongest baseline")


class VersionDecision(Schema):
    """What the gate decided about a version."""

    promotion_id: str | None = Field(description="Job; null for a promotion outside the cluster")
    result: str = Field(description="promoted, passed, refused, undecided or unchanged")
    reason: str
    at: datetime
    by: str
    alias: str
    dry_run: bool
    detail: dict[str, Any] | None = Field(description="numbers of the comparison")


class ModelVersion(Schema):
    """A version of a model. Fields are null until a Job has read the version in MLflow."""

    version: str
    created_at: datetime | None
    created_by: str | None
    run_id: str | None = Field(description="MLflow run")
    git_revision: str | None
    image: str | None = Field(description="container image that trained the version")
    dataset: Dataset | None
    format: str | None
    size_bytes: int | None
    digest: str | None = Field(description="null: the version cannot be served before its adoption")
    signed_by: str | None = Field(description="SHA-256 of the public key")
    verified: bool | None = Field(
        description="false: its runtime does not prove that it serves this digest; null: no traffic"
    )
    aliases: list[str]
    role: str | None = Field(description="live, canary, previous or draining; null: not served")
    percent: int = Field(description="share of the traffic")
    metrics: dict[str, MetricValue]
    parameters: dict[str, str]
    confusion_matrix: dict[str, Any] | None = Field(
        description=(
            "`counts[true][predicted]` in rows, and the recall by class; null in a list, and for "
            "one of more than 64 KiB"
        ),
    )
    last_promotion: VersionDecision | None
    promotions: list[VersionDecision] | None = Field(
        default=None, description="all decisions of the gate, newest first; null in a list"
    )


class ModelVersionList(Schema):
    """Versions of a model, newest first."""

    versions: list[ModelVersion]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: it is the last")


class Versions:
    """The routes of a model's versions."""

    def __init__(self, routes: Routes, database: Database) -> None:
        self._routes = routes
        self._database = database

    def router(self) -> Router:
        router = Router(prefix="/v1/models/{model}/versions", responses=PROBLEMS, tags=["models"])
        permission = Permission("versions", SCIENTIFIC)
        router.add(
            "GET",
            self.list_versions,
            permission,
            summary="List the versions of a model",
            response_model=ModelVersionList,
            responses=NOT_MODIFIED,
        )
        router.add(
            "GET /{version}",
            self.get_version,
            permission,
            summary="Return a version and what the gate decided about it",
            response_model=ModelVersion,
            responses=NOT_MODIFIED,
        )
        return router

    async def list_versions(
        self,
        model: str,
        limit: Limit = PAGE,
        cursor: Cursor = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        route = self._routes.get(model)
        before = number_of(cursor) if cursor is not None else MAX_NUMBER
        name = route.model.spec.registered_model
        rows = await self._database.run(
            select(*LISTED)
            .where(VERSION.registered_model == name, VERSION.number < before)
            .order_by(VERSION.number.desc())
            .limit(limit + 1)
        )
        by_number = dict.fromkeys(await self._served_alone(route, before))
        by_number |= {row.number: row for row in rows}
        numbers = sorted(by_number, reverse=True)
        page = numbers[:limit]
        latest = await self._latest(name, page)
        versions = [
            ModelVersion(
                **_fields(route, number, by_number[number], latest.get(number)),
                confusion_matrix=None,
            )
            for number in page
        ]
        following = cursor_of(page[-1]) if len(numbers) > limit else None
        return conditional(
            ModelVersionList(versions=versions, next_cursor=following), if_none_match
        )

    async def get_version(
        self, model: str, version: Version, if_none_match: IfNoneMatch = None
    ) -> Response:
        route, number = self._routes.get(model), int(version)
        name = route.model.spec.registered_model
        rows = await self._database.run(
            select(registered_versions).where(
                VERSION.registered_model == name, VERSION.number == number
            )
        )
        if not rows and version not in route.targets:
            raise NotFound(
                f"version {version} of model {model} is not known; a Job of the model copies the "
                "versions from MLflow, for example its next promotion"
            )
        row = rows[0] if rows else None
        decisions = await self._database.run(
            select(version_promotions)
            .where(PROMOTION.registered_model == name, PROMOTION.number == number)
            .order_by(PROMOTION.time.desc())
            .limit(MOST_PROMOTIONS)
        )
        detail = ModelVersion(
            **_fields(route, number, row, decisions[0] if decisions else None),
            confusion_matrix=row.confusion_matrix if row else None,
            promotions=[_decision(each) for each in decisions],
        )
        return conditional(detail, if_none_match)

    async def _served_alone(self, route: Route, before: int) -> list[int]:
        """Return the served versions below ``before`` of which there is no row."""
        served = [int(version) for version in route.targets if version.isdecimal()]
        served = [number for number in served if number < before]
        if not served:
            return []
        rows = await self._database.run(
            select(VERSION.number).where(
                VERSION.registered_model == route.model.spec.registered_model,
                VERSION.number.in_(served),
            )
        )
        return sorted(set(served) - {row.number for row in rows})

    async def _latest(self, name: str, numbers: Sequence[int]) -> Mapping[int, Row[Any]]:
        """Return the last decision about each version."""
        rows = await self._database.run(
            select(version_promotions)
            .where(PROMOTION.registered_model == name, PROMOTION.number.in_(numbers))
            .ext(distinct_on(PROMOTION.number))
            .order_by(PROMOTION.number, PROMOTION.time.desc())
        )
        return {row.number: row for row in rows}


def _fields(
    route: Route, number: int, row: Row[Any] | None, latest: Row[Any] | None
) -> dict[str, Any]:
    """Return the fields of a version from its row and the Model's status."""
    target = route.targets.get(str(number))
    traffic = target.traffic if target else None
    return {
        "version": str(number),
        "created_at": row.created if row else None,
        "created_by": row.created_by if row else None,
        "run_id": row.run_id if row else traffic and traffic.run_id,
        "git_revision": row.git_revision if row else None,
        "image": row.image if row else None,
        "dataset": row.dataset if row else None,
        "format": row.format if row else None,
        "size_bytes": row.size_bytes if row else None,
        # The bytes that are served decide, if a tag was changed afterwards.
        "digest": traffic.digest if traffic else row and row.digest,
        "signed_by": row.signed_by if row else None,
        "verified": traffic.verified if traffic else None,
        "aliases": (row.aliases or []) if row else [],
        "role": traffic.role if traffic else None,
        "percent": traffic.percent if traffic else 0,
        "metrics": (row.metrics or {}) if row else {},
        "parameters": (row.parameters or {}) if row else {},
        "last_promotion": _decision(latest) if latest else None,
    }


def _decision(row: Row[Any]) -> VersionDecision:
    return VersionDecision(
        promotion_id=row.promotion_id,
        result=row.result,
        reason=row.reason,
        at=row.time,
        by=row.subject,
        alias=row.alias,
        dry_run=row.dry_run,
        detail=row.detail,
    )
