"""Trainings under ``/v1``: Jobs from the template that a Model names."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from slipway_cluster.interface import Manifest

from slipway_gateway.access.audit import Audit
from slipway_gateway.control.modeljobs import ModelJobs
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import RequestSchema, Schema
from slipway_gateway.errors import NotFound
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.joblog import LogReaders
from slipway_gateway.jobs.parameters import arguments, check, schema_of
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


class TrainingRequest(RequestSchema):
    """Parameters by name. Which there are, and what they may be, is in the list of trainings."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"parameters": {"C": 0.1, "seed": 7}}]}
    )

    parameters: dict[str, Any] = Field(default_factory=dict, max_length=100)


class Training(Schema):
    """A Job that trains, for as long as the cluster keeps it."""

    training_id: str = Field(description="name of the Job")
    model: str
    state: JobState
    parameters: dict[str, Any]
    submitted_by: str = Field(description="who asked for it: `user:ada`")
    created: datetime
    finished: datetime | None
    reason: str | None = Field(description="why it failed, as the cluster says it")
    result: dict[str, Any] | None = Field(
        default=None,
        description=(
            "what the Job said at its end: version, metrics with their baseline; not in lists"
        ),
    )


class TrainingList(Schema):
    """The newest first."""

    parameters: dict[str, Any] = Field(
        description="JSON Schema of what a training of this model takes"
    )
    trainings: list[Training]


class Trainings:
    """The routes."""

    def __init__(
        self, routes: Routes, submissions: Submissions, readers: LogReaders, audit: Audit
    ) -> None:
        self._routes = routes
        self._jobs = ModelJobs("training", routes, submissions, audit)
        self._submissions = submissions
        self._readers = readers

    def router(self) -> APIRouter:
        router = APIRouter(
            prefix="/v1/models/{model}/trainings", responses=PROBLEMS, tags=["training"]
        )
        router.post("", status_code=202, summary="Train a new version")(self.train)
        router.get("", summary="Trainings, and what they take")(self.list)
        router.get("/{job}", summary="One training")(self.get)
        router.delete("/{job}", status_code=204, summary="Cancel a training")(self.cancel)
        router.get(
            "/{job}/logs", summary="The log of a training", response_class=StreamingResponse
        )(self.logs)
        return router

    async def train(
        self,
        model: str,
        asked: TrainingRequest,
        context: CurrentCall,
        response: Response,
        key: IdempotencyKey = None,
    ) -> Training:
        template = await self._template(model)
        check(schema_of(template), asked.parameters)
        name, args = template["metadata"]["name"], list(arguments(asked.parameters))
        job = await self._jobs.begin(
            model, name, args, {"parameters": asked.parameters}, context, key, response
        )
        return _training(model, job)

    async def list(self, model: str) -> TrainingList:
        template = await self._template(model)
        jobs = await self._jobs.all(model)
        return TrainingList(
            parameters=schema_of(template), trainings=[_training(model, job) for job in jobs]
        )

    async def get(self, model: str, job: str) -> Training:
        found = await self._jobs.find(model, job)
        return _training(model, found, await self._submissions.result(found))

    async def cancel(self, model: str, job: str, context: CurrentCall) -> None:
        await self._jobs.cancel(model, job, context)

    async def logs(
        self,
        model: str,
        job: str,
        follow: Annotated[bool, Query(description="go on until the training is over")] = False,
    ) -> StreamingResponse:
        found = await self._jobs.find(model, job)
        lines = self._submissions.lines(found["metadata"]["name"], follow=follow)
        return StreamingResponse(await self._readers.stream(lines), media_type="text/plain")

    async def _template(self, model: str) -> Manifest:
        """The CronJob. Raises NotFound, Unavailable."""
        training = self._routes.get(model).model.spec.training
        if training is None:
            raise NotFound(
                f"model {model} has no training: its spec.training names no Job template"
            )
        return await self._submissions.template(training.template)


def _training(model: str, job: Manifest, result: dict[str, Any] | None = None) -> Training:
    return Training(
        training_id=job["metadata"]["name"],
        model=model,
        state=state(job),
        parameters=asked_for(job).get("parameters", {}),
        submitted_by=submitted_by(job),
        created=created(job),
        finished=finished(job),
        reason=reason(job),
        result=result,
    )
