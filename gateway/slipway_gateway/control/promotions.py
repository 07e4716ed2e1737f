"""Promotions under ``/v1``: Jobs that put a version to the gate and move a Model's alias."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, Self

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, model_validator
from slipway_cluster.interface import Manifest

from slipway_gateway.access.audit import Audit
from slipway_gateway.control.modeljobs import ModelJobs
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.submission import (
    IdempotencyKey,
    JobState,
    Submissions,
    asked_for,
    created,
    finished,
    reason,
    state,
    submitted_by,
)


class PromotionRequest(RequestSchema):
    """Which version is to be live, and what it must prove."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"version": "3", "dryRun": True}]}
    )

    version: str = Field(pattern=r"^[1-9][0-9]{0,8}$", description="registry version")
    dry_run: bool = Field(default=False, description="say what the gate says, move nothing")
    rollback: bool = Field(
        default=False, description="without the gate; the audit record says so, and wants a reason"
    )
    metric: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="of the gate; the model's first if null",
    )
    direction: Literal["max", "min"] | None = Field(
        default=None, description="whether larger or smaller is better"
    )
    min_gain: float = Field(
        default=0, ge=0, lt=1e9, allow_inf_nan=False, description="0: it must not be worse"
    )
    reason: str = Field(
        default="",
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="why, for the audit record",
    )

    @model_validator(mode="after")
    def _is_explained(self) -> Self:
        if self.rollback and not self.reason:
            raise ValueError("a rollback skips the gate: give a reason")
        return self

    def arguments(self, registered_model: str, alias: str) -> Iterator[str]:
        """Of ``python -m slipway_jobs promote``. With ``=``, so that no text of a caller becomes an
        option.
        """
        yield from (registered_model, self.version)
        yield from (f"--alias={alias}", f"--min-gain={self.min_gain!r}", f"--reason={self.reason}")
        yield from (["--dry-run"] if self.dry_run else []) + (
            ["--rollback"] if self.rollback else []
        )
        yield from [f"--metric={self.metric}"] if self.metric else []
        yield from [f"--direction={self.direction}"] if self.direction else []


class Promotion(Schema):
    """A Job that promotes, for as long as the cluster keeps it."""

    promotion_id: str = Field(description="name of the Job")
    model: str
    state: JobState = Field(description="of the Job; what the gate says is in the result's `state`")
    request: PromotionRequest
    submitted_by: str = Field(description="who asked for it: `user:ada`")
    created: datetime
    finished: datetime | None
    reason: str | None = Field(description="why the Job failed, as the cluster says it")
    result: dict[str, Any] | None = Field(
        description=(
            "what the Job said at its end: `state` is promoted, unchanged, passed (a dry run), "
            "refused or failed"
        )
    )


class PromotionList(Schema):
    """The newest first."""

    promotions: list[Promotion]


class Promotions:
    """The routes. ``template`` is the suspended CronJob."""

    def __init__(
        self, routes: Routes, submissions: Submissions, template: str, audit: Audit
    ) -> None:
        self._routes = routes
        self._jobs = ModelJobs("promotion", routes, submissions, audit)
        self._submissions = submissions
        self._template = template

    def router(self) -> APIRouter:
        router = APIRouter(
            prefix="/v1/models/{model}/promotions", responses=PROBLEMS, tags=["promotion"]
        )
        router.post("", status_code=202, summary="Put a version to the gate and make it live")(
            self.promote
        )
        router.get("", summary="History of promotions")(self.list)
        router.get("/{job}", summary="One promotion")(self.get)
        return router

    async def promote(
        self,
        model: str,
        asked: PromotionRequest,
        context: CurrentCall,
        response: Response,
        key: IdempotencyKey = None,
    ) -> Promotion:
        spec = self._routes.get(model).model.spec
        args = list(asked.arguments(spec.registered_model, spec.alias))
        content = asked.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        job = await self._jobs.begin(model, self._template, args, content, context, key, response)
        return await self._described(model, job)

    async def list(self, model: str) -> PromotionList:
        return PromotionList(
            promotions=[await self._described(model, job) for job in await self._jobs.all(model)]
        )

    async def get(self, model: str, job: str) -> Promotion:
        return await self._described(model, await self._jobs.find(model, job))

    async def _described(self, model: str, job: Manifest) -> Promotion:
        return Promotion(
            promotion_id=job["metadata"]["name"],
            model=model,
            state=state(job),
            # A gateway of a later release may have made it.
            request=PromotionRequest.model_validate(asked_for(job), extra="ignore"),
            submitted_by=submitted_by(job),
            created=created(job),
            finished=finished(job),
            reason=reason(job),
            result=await self._submissions.result(job),
        )
