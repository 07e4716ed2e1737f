"""Jobs of one purpose for a model, such as ``/v1/models/{model}/trainings``."""

from typing import Any

from fastapi import Response
from slipway_cluster.interface import Manifest

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.submission import Submission, Submissions


class ModelJobs:
    """The Jobs of one purpose, a singular noun whose plural is in the path."""

    def __init__(
        self, purpose: str, routes: Routes, submissions: Submissions, audit: Audit
    ) -> None:
        self._purpose = purpose
        self._routes = routes
        self._submissions = submissions
        self._audit = audit

    async def begin(
        self,
        model: str,
        template: str,
        args: list[str],
        content: dict[str, Any],
        context: RequestContext,
        key: str | None,
        response: Response,
    ) -> Manifest:
        """Submit a Job with its audit entry and set the ``location`` of the response.

        Raises NotFound, InvalidInput, Unavailable.
        """
        submission = Submission(
            purpose=self._purpose,
            template=template,
            model=model,
            subject=context.caller.subject,
            content=content,
            args=args,
            env={"SLIPWAY_ACTOR": context.caller.subject, "SLIPWAY_REQUEST_ID": context.request_id},
            key=key,
        )
        path = self._path(model, submission.name)
        async with self._audit.noted(context, f"{self._purpose}.create", path, content) as entry:
            job, is_new = await self._submissions.submit(submission)
            if not is_new:
                await entry.rollback()
        response.headers["location"] = f"/v1/{path}"
        return job

    def _path(self, model: str, job: str) -> str:
        return f"models/{model}/{self._purpose}s/{job}"

    async def all(self, model: str) -> list[Manifest]:
        """Return the Jobs of the model, newest first. Raises NotFound, Unavailable."""
        self._routes.get(model)
        return await self._submissions.all(self._purpose, model)

    async def find(self, model: str, job: str) -> Manifest:
        """Return a Job of the model. Raises NotFound, Unavailable."""
        self._routes.get(model)
        return await self._submissions.find(self._purpose, model, job)

    async def cancel(self, model: str, job: str, context: RequestContext) -> None:
        """Cancel a Job. Raises NotFound, Unavailable, and Conflict if the Job has ended."""
        self._routes.get(model)
        async with self._audit.noted(context, f"{self._purpose}.cancel", self._path(model, job)):
            await self._submissions.cancel(self._purpose, model, job)
