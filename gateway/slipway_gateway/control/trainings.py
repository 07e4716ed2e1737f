"""Training Jobs under ``/v1``, created from the template that a Model names."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field
from slipway_cluster.interface import Manifest
from slipway_contract import labels

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.route import CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission
from slipway_gateway.control.job_routes import JobOrder, JobRoutes, ModelJob
from slipway_gateway.errors import Conflict, NotFound
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.joblog import LogReaders
from slipway_gateway.jobs.parameters import arguments, check, schema_of
from slipway_gateway.jobs.submission import Submissions, asked_for


class TrainingRequest(RequestSchema):
    """Parameters by name. The list of trainings contains their JSON Schema."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"parameters": {"C": 0.1, "seed": 7}}]}
    )

    parameters: dict[str, Any] = Field(default_factory=dict, max_length=100)


class Training(ModelJob):
    """A training Job, available until the cluster deletes it."""

    training_id: str = Field(description="name of the Job")
    parameters: dict[str, Any]
    result: dict[str, Any] | None = Field(
        default=None,
        description="output of the Job: version, metrics with their baseline; absent in lists",
    )


class TrainingList(Schema):
    """Trainings, newest first, and the JSON Schema of their parameters."""

    parameters: dict[str, Any] = Field(description="JSON Schema of the training parameters")
    trainings: list[Training]


class Trainings(JobRoutes[TrainingRequest]):
    """The training routes; in addition to those of all Jobs, a training has logs and can end."""

    purpose = labels.TRAINING
    permission = "train"
    request = TrainingRequest
    answer = Training
    listing = TrainingList
    list_summary = "List trainings and the schema of their parameters"

    def __init__(
        self, routes: Routes, submissions: Submissions, audit: Audit, readers: LogReaders
    ) -> None:
        super().__init__(routes, submissions, audit)
        self._readers = readers

    def router(self) -> Router:
        router, permission = super().router(), Permission(self.permission, SCIENTIFIC)
        router.add(
            "DELETE /{job}",
            self.cancel_training,
            permission,
            status_code=204,
            summary="Cancel a training",
        )
        router.add(
            "GET /{job}/logs",
            self.get_training_logs,
            permission,
            summary="Return the logs of a training",
            response_class=StreamingResponse,
        )
        return router

    async def order(self, model: str, body: TrainingRequest) -> JobOrder:
        template = await self._template(model)
        check(schema_of(template), body.parameters)
        args, content = list(arguments(body.parameters)), {"parameters": body.parameters}
        return JobOrder(template["metadata"]["name"], args, content)

    async def listed(self, model: str, found: list[Manifest]) -> TrainingList:
        parameters = schema_of(await self._template(model))
        trainings = [self.described(model, job, None) for job in found]
        return TrainingList(parameters=parameters, trainings=trainings)

    def described(self, model: str, job: Manifest, result: dict[str, Any] | None) -> Training:
        return Training(
            training_id=job["metadata"]["name"],
            parameters=asked_for(job).get("parameters", {}),
            result=result,
            **self.fields(model, job),
        )

    async def cancel_training(self, model: str, job: str, context: CurrentContext) -> None:
        await self.cancel(model, job, context)

    async def get_training_logs(
        self,
        model: str,
        job: str,
        follow: Annotated[
            bool, Query(description="follow the log until the training ends")
        ] = False,
    ) -> StreamingResponse:
        found = await self.find(model, job)
        lines = self.submissions.lines(found["metadata"]["name"], follow=follow)
        return StreamingResponse(await self._readers.stream(lines), media_type="text/plain")

    async def _template(self, model: str) -> Manifest:
        """Return the CronJob with the Job template. Raises NotFound, Conflict, Unavailable."""
        training = self.routes.get(model).model.spec.training
        name = training.cron_job(model) if training else None
        if name is None:
            raise NotFound(
                f"model {model} has no training Job; set spec.training.template or "
                "spec.training.job of the Model"
            )
        template = await self.submissions.template(name)
        own = {labels.MODEL: model, labels.MANAGED_BY: labels.FIELD_MANAGER}
        found = template["metadata"].get("labels", {})
        if training and training.job is not None and not own.items() <= found.items():
            raise Conflict(
                f"the CronJob {name} is not that of the training of model {model}; delete it, or "
                "name it as spec.training.template"
            )
        return template
