"""Training Jobs under ``/v1``, created from the template that a Model names."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from slipway_cluster.interface import Manifest

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission, Spending
from slipway_gateway.control.modeljobs import ModelJobs
from slipway_gateway.errors import NotFound
from slipway_gateway.http.schema import RequestSchema, Schema
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
    """Parameters by name. The list of trainings contains their JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"parameters": {"C": 0.1, "seed": 7}}]}
    )

    parameters: dict[str, Any] = Field(default_factory=dict, max_length=100)


class Training(Schema):
    """A training Job, available until the cluster deletes it."""

    training_id: str = Field(description="name of the Job")
    model: str
    state: JobState
    parameters: dict[str, Any]
    submitted_by: str = Field(description="caller that submitted the Job: `user:ada`")
    created: datetime
    finished: datetime | None
    reason: str | None = Field(description="reason of a failure, from the Job's status")
    result: dict[str, Any] | None = Field(
        default=None,
        description="output of the Job: version, metrics with their baseline; absent in lists",
    )


class TrainingList(Schema):
    """Trainings, newest first, and the JSON Schema of their parameters."""

    parameters: dict[str, Any] = Field(description="JSON Schema of the training parameters")
    trainings: list[Training]


class Trainings:
    """The training routes."""

    def __init__(
        self, routes: Routes, submissions: Submissions, readers: LogReaders, audit: Audit
    ) -> None:
        self._routes = routes
        self._jobs = ModelJobs("training", routes, submissions, audit)
        self._submissions = submissions
        self._readers = readers

    def router(self) -> Router:
        router = Router(
            prefix="/v1/models/{model}/trainings", responses=PROBLEMS, tags=["trainings"]
        )
        train = Permission("train", SCIENTIFIC)
        router.add(
            "POST",
            "",
            self.create_training,
            Permission("train", SCIENTIFIC, Spending.TRAINING),
            status_code=202,
            summary="Create a training",
        )
        router.add(
            "GET",
            "",
            self.list_trainings,
            train,
            summary="List trainings and the schema of their parameters",
        )
        router.add("GET", "/{job}", self.get_training, train, summary="Return a training")
        router.add(
            "DELETE",
            "/{job}",
            self.cancel_training,
            train,
            status_code=204,
            summary="Cancel a training",
        )
        router.add(
            "GET",
            "/{job}/logs",
            self.get_training_logs,
            train,
            summary="Return the logs of a training",
            response_class=StreamingResponse,
        )
        return router

    async def create_training(
        self,
        model: str,
        body: TrainingRequest,
        context: CurrentContext,
        response: Response,
        key: IdempotencyKey = None,
    ) -> Training:
        template = await self._template(model)
        check(schema_of(template), body.parameters)
        name, args = template["metadata"]["name"], list(arguments(body.parameters))
        job = await self._jobs.begin(
            model, name, args, {"parameters": body.parameters}, context, key, response
        )
        return _training(model, job)

    async def list_trainings(self, model: str) -> TrainingList:
        template = await self._template(model)
        jobs = await self._jobs.all(model)
        return TrainingList(
            parameters=schema_of(template), trainings=[_training(model, job) for job in jobs]
        )

    async def get_training(self, model: str, job: str) -> Training:
        found = await self._jobs.find(model, job)
        return _training(model, found, await self._submissions.result(found))

    async def cancel_training(self, model: str, job: str, context: CurrentContext) -> None:
        await self._jobs.cancel(model, job, context)

    async def get_training_logs(
        self,
        model: str,
        job: str,
        follow: Annotated[
            bool, Query(description="follow the log until the training ends")
        ] = False,
    ) -> StreamingResponse:
        found = await self._jobs.find(model, job)
        lines = self._submissions.lines(found["metadata"]["name"], follow=follow)
        return StreamingResponse(await self._readers.stream(lines), media_type="text/plain")

    async def _template(self, model: str) -> Manifest:
        """Return the CronJob with the Job template. Raises NotFound, Unavailable."""
        training = self._routes.get(model).model.spec.training
        if training is None:
            raise NotFound(
                f"model {model} has no training Job; set spec.training.template of the Model"
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
