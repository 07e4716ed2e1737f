"""Jobs of one purpose under a model, as ``/v1/models/{model}/trainings``: begun, listed and found alike."""

from typing import Any

from fastapi import Response
from slipway_cluster.interface import Manifest

from slipway_gateway.access.call import Call
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.submission import Submission, Submissions


class ModelJobs:
    """``purpose`` is the noun of one; its plural stands in the path."""

    def __init__(self, purpose: str, routes: Routes, submissions: Submissions) -> None:
        self._purpose = purpose
        self._routes = routes
        self._submissions = submissions

    async def begin(
        self, model: str, template: str, args: list[str], content: dict[str, Any], call: Call, key: str | None, response: Response
    ) -> Manifest:
        """The Job, and where it is on the answer. Raises NotFound, InvalidInput, Unavailable."""
        wanted = Submission(
            purpose=self._purpose,
            template=template,
            model=model,
            subject=call.caller.subject,
            content=content,
            args=args,
            env={"SLIPWAY_ACTOR": call.caller.subject},
            key=key,
        )
        job = await self._submissions.submit(wanted)
        response.headers["location"] = f"/v1/models/{model}/{self._purpose}s/{job['metadata']['name']}"
        return job

    async def all(self, model: str) -> list[Manifest]:
        """The newest first. Raises NotFound, Unavailable."""
        self._routes.get(model)
        return await self._submissions.all(self._purpose, model)

    async def find(self, model: str, job: str) -> Manifest:
        """Raises NotFound, Unavailable."""
        self._routes.get(model)
        return await self._submissions.find(self._purpose, model, job)

    async def cancel(self, model: str, job: str) -> None:
        """Raises NotFound, Conflict when it is over, Unavailable."""
        self._routes.get(model)
        await self._submissions.cancel(self._purpose, model, job)
