"""The routes of a model's Jobs of one purpose, such as ``/v1/models/{model}/trainings``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from fastapi import Response
from pydantic import Field
from slipway_cluster.interface import Manifest

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission, Spending
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs import submission as jobs
from slipway_gateway.jobs.submission import IdempotencyKey, JobState, Submission, Submissions

Request = TypeVar("Request", bound=RequestSchema)


class ModelJob(Schema):
    """A Job of a model, available until the cluster deletes it."""

    model: str
    state: JobState
    submitted_by: str = Field(
        description="caller that submitted the Job: `user:ada`; empty: a schedule, or kubectl"
    )
    created: datetime
    finished: datetime | None
    reason: str | None = Field(description="reason of a failure, from the Job's status")


@dataclass(frozen=True)
class JobOrder:
    """The Job that a request creates."""

    template: str
    """Name of the suspended CronJob with the Job template."""
    args: Sequence[str]
    content: dict[str, Any]
    """The request body, which the API returns with the Job."""


class JobRoutes(ABC, Generic[Request]):
    """Routes to create, list and read Jobs, for each purpose a subclass."""

    purpose: ClassVar[str]
    """A singular noun, whose plural is in the path."""
    permission: ClassVar[str]
    request: type[Request]
    answer: ClassVar[type[ModelJob]]
    listing: ClassVar[type[Schema]]
    list_summary: ClassVar[str]
    creates_with_result: ClassVar[bool] = False
    """The response to a creation has the result, which a repeated key can find. It is read from the
    Job's log, which may be unreachable.
    """

    def __init__(self, routes: Routes, submissions: Submissions, audit: Audit) -> None:
        self.routes = routes
        self.submissions = submissions
        self._audit = audit

    @abstractmethod
    async def order(self, model: str, body: Request) -> JobOrder:
        """Return the Job of a request. Raises NotFound, InvalidInput, Unavailable."""

    @abstractmethod
    async def listed(self, model: str, found: list[Manifest]) -> Schema:
        """Return the response with all Jobs of the model, the newest first."""

    @abstractmethod
    def described(self, model: str, job: Manifest, result: dict[str, Any] | None) -> ModelJob:
        """Return the response for a Job with its result, the last line of its output."""

    def router(self) -> Router:
        purpose, plural = self.purpose, f"{self.purpose}s"
        router = Router(prefix=f"/v1/models/{{model}}/{plural}", responses=PROBLEMS, tags=[plural])

        async def create(
            model: str,
            body: Request,
            context: CurrentContext,
            response: Response,
            key: IdempotencyKey = None,
        ) -> ModelJob:
            job = await self._begin(model, await self.order(model, body), context, key)
            response.headers["location"] = f"/v1/{self._path(model, job['metadata']['name'])}"
            result = await self.submissions.result(job) if self.creates_with_result else None
            return self.described(model, job, result)

        async def listing(model: str) -> Schema:
            self.routes.get(model)
            return await self.listed(model, await self.submissions.all(purpose, model))

        async def get(model: str, job: str) -> ModelJob:
            found = await self.find(model, job)
            return self.described(model, found, await self.submissions.result(found))

        create.__annotations__["body"] = self.request  # FastAPI validates by the annotation
        read = Permission(self.permission, SCIENTIFIC)
        router.add(
            "POST",
            create,
            Permission(self.permission, SCIENTIFIC, Spending.TRAINING),
            name=f"create_{purpose}",
            status_code=202,
            summary=f"Create a {purpose}",
            response_model=self.answer,
        )
        router.add(
            "GET",
            listing,
            read,
            name=f"list_{plural}",
            summary=self.list_summary,
            response_model=self.listing,
        )
        router.add(
            "GET /{job}",
            get,
            read,
            name=f"get_{purpose}",
            summary=f"Return a {purpose}",
            response_model=self.answer,
        )
        return router

    async def find(self, model: str, job: str) -> Manifest:
        """Return a Job of the model. Raises NotFound, Unavailable."""
        self.routes.get(model)
        return await self.submissions.find(self.purpose, model, job)

    async def cancel(self, model: str, job: str, context: RequestContext) -> None:
        """Cancel a Job. Raises NotFound, Unavailable, and Conflict if the Job has ended."""
        self.routes.get(model)
        action = f"{self.purpose}.cancel"
        async with self._audit.noted(context, action, self._path(model, job)):
            await self.submissions.cancel(self.purpose, model, job)

    def fields(self, model: str, job: Manifest) -> dict[str, Any]:
        """Return the fields of the response that all purposes have."""
        return {
            "model": model,
            "state": jobs.state(job),
            "submitted_by": jobs.submitted_by(job),
            "created": jobs.created(job),
            "finished": jobs.finished(job),
            "reason": jobs.reason(job),
        }

    async def _begin(
        self, model: str, order: JobOrder, context: RequestContext, key: str | None
    ) -> Manifest:
        """Submit a Job with its audit entry; a repeated key returns the Job that exists."""
        subject = context.caller.subject
        submission = Submission(
            purpose=self.purpose,
            template=order.template,
            model=model,
            subject=subject,
            content=order.content,
            args=order.args,
            env={"SLIPWAY_ACTOR": subject, "SLIPWAY_REQUEST_ID": context.request_id},
            key=key,
        )
        action, path = f"{self.purpose}.create", self._path(model, submission.name)
        async with self._audit.noted(context, action, path, order.content) as entry:
            job, is_new = await self.submissions.submit(submission)
            if not is_new:
                await entry.rollback()
        return job

    def _path(self, model: str, job: str) -> str:
        return f"models/{model}/{self.purpose}s/{job}"
