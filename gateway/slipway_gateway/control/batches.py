"""Batch predictions under ``/v1``: a Job predicts a file of rows and stores a result file."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field, ValidationError
from slipway_cluster.interface import Manifest
from slipway_contract.body import read_json
from slipway_contract.errors import InvalidInput, MalformedRequest
from sqlalchemy import Row

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission, Spending
from slipway_gateway.control.exports import Exports
from slipway_gateway.errors import Conflict, KeyReused, NotFound, TooManyJobs
from slipway_gateway.http.outbound import Outbound
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.batchstore import BatchStore
from slipway_gateway.jobs.submission import (
    IdempotencyKey,
    JobState,
    Submission,
    Submissions,
    is_over,
    reason,
    state,
)
from slipway_gateway.jobs.upload import RowCounter, received
from slipway_gateway.limits.quotas import Quotas, check_fits
from slipway_gateway.requestid import PATTERN, new_id

PURPOSE = "batch"
FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
LINK: dict[str, Any] = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "format": "uri"}},
}
MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv; charset=utf-8"}
ResultFormat = Annotated[
    Literal["parquet", "csv"], Query(description="format of the file; CSV has lists as JSON")
]
BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": FORM}, "application/json": {"schema": LINK}},
    }
}


class Link(RequestSchema):
    """The address of a file that the gateway downloads."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(max_length=2000)


class Batch(Schema):
    """A batch prediction and its progress."""

    batch_id: str
    model: str
    version: str = Field(
        description="version that predicts all rows: the one with the most traffic at creation"
    )
    state: JobState
    rows: int | None = Field(description="number of rows; null until the Job has counted them")
    rows_done: int
    rows_failed: int = Field(description="rows that have an error instead of a prediction")
    created: datetime
    finished: datetime | None
    expires: datetime = Field(description="time at which file and result are deleted")
    reason: str | None = Field(default=None, description="reason of a failure")


class BatchList(Schema):
    """Batches, newest first."""

    batches: list[Batch]


@dataclass(frozen=True)
class BatchTerms:
    """The Job template of batches, and their limits."""

    template: str
    """Name of the suspended CronJob with the Job template."""
    limit: int
    """Maximum size of a file in bytes."""
    rows: int
    keep: timedelta
    """Time after the upload at which file and result are deleted."""


class Batches:
    """The batch routes."""

    def __init__(
        self,
        routes: Routes,
        submissions: Submissions,
        store: BatchStore,
        outbound: Outbound,
        audit: Audit,
        quotas: Quotas,
        exports: Exports,
        terms: BatchTerms,
    ) -> None:
        self._routes = routes
        self._submissions = submissions
        self._store = store
        self._outbound = outbound
        self._audit = audit
        self._quotas = quotas
        self._exports = exports
        self._counter = RowCounter()
        self._terms = terms

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS, tags=["batches"])
        batch = Permission("batch", ALL)
        router.add(
            "POST /models/{model}/batches",
            self.create_batch,
            Permission("batch", ALL, Spending.TRAINING),
            status_code=202,
            summary="Create a batch prediction from a file of rows",
            openapi_extra=BODY,
        )
        router.add("GET /batches", self.list_batches, batch, summary="List your batches")
        router.add(
            "GET /batches/{batch_id}",
            self.get_batch,
            batch,
            summary="Return a batch and its progress",
        )
        router.add(
            "GET /batches/{batch_id}/result",
            self.get_batch_result,
            batch,
            summary="Return the result of a batch as Parquet or CSV",
            response_class=StreamingResponse,
        )
        router.add(
            "DELETE /batches/{batch_id}",
            self.delete_batch,
            batch,
            status_code=204,
            summary="Cancel and delete a batch",
        )
        return router

    async def create_batch(
        self,
        model: str,
        request: Request,
        context: CurrentContext,
        response: Response,
        key: IdempotencyKey = None,
    ) -> Batch:
        policy = context.grant.policy if context.grant else None
        if policy:
            check_fits(policy, 1)
        subject = context.caller.subject
        await self._store.check_room(subject)
        if key is None:  # a request with a key may be a repetition, which starts no Job
            await self._submissions.check_room(subject)
        target = self._routes.get(model).live or self._routes.pick(model)
        pieces, kind = await self._pieces(request)
        async with received(pieces, kind, self._terms.limit) as upload:
            now, traffic = datetime.now(UTC), target.traffic
            values: dict[str, Any] = {
                "batch_id": new_id(),
                "subject": subject,
                "model": model,
                "key": key,
            }
            values |= {
                "version": traffic.version,
                "digest": traffic.digest,
                "url": traffic.url,
                "service": traffic.service,
            }
            values |= {
                "format": upload.format,
                "sha256": upload.sha256,
                "created": now,
                "expires": now + self._terms.keep,
            }
            rows = await self._counter.count(upload)
            if rows > self._terms.rows:
                raise InvalidInput(
                    "file",
                    f"has {rows} rows; {self._terms.rows} are allowed, so send several files",
                )
            charge = None
            if policy and policy.is_metered:
                charge = partial(
                    self._quotas.charge, subject=subject, policy=policy, rows=rows, now=now
                )
                values |= {"policy": policy.name, "charged": rows, "charged_day": now.date()}
            row, is_new = await self._store.add(upload.path, charge, **values)
        if not is_new and (row.sha256, row.model) != (upload.sha256, model):
            raise KeyReused
        try:
            job = await self._start(row)
        except TooManyJobs:
            if is_new:
                await self._store.delete(row.batch_id)
            raise
        if is_new:
            await self._audit.write(
                context, "batch.create", f"batches/{row.batch_id}", {"model": model, "rows": rows}
            )
        response.headers["location"] = f"/v1/batches/{row.batch_id}"
        return _described(row, job)

    async def _pieces(self, request: Request) -> tuple[AsyncIterator[bytes], str]:
        """Return the file in pieces and its content type. Raises InvalidInput."""
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != "application/json":
            return request.stream(), kind
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > 2**14:
                raise InvalidInput("uri", "is too long: the body has more than 16 KiB")
        try:
            link = Link.model_validate(read_json(body))
        except ValidationError as error:
            raise InvalidInput("uri", str(error.errors()[0]["msg"])) from None
        except MalformedRequest as error:
            raise InvalidInput("uri", str(error)) from None
        return self._outbound.download("uri", link.uri), ""

    async def _start(self, row: Row[Any]) -> Manifest:
        """Return the Job of a batch; a repetition returns the Job that exists."""
        submission = Submission(
            purpose=PURPOSE,
            template=self._terms.template,
            model=row.model,
            subject=row.subject,
            content={"batchId": row.batch_id},
            args=[row.batch_id],
            key=row.batch_id,
        )
        job, _ = await self._submissions.submit(submission)
        await self._store.started(row.batch_id, job["metadata"]["name"])
        return job

    async def list_batches(
        self, context: CurrentContext, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> BatchList:
        rows = await self._store.list(context.caller.subject, limit)
        return BatchList(batches=[_described(row, await self._job(row)) for row in rows])

    async def get_batch(self, batch_id: str, context: CurrentContext) -> Batch:
        row = await self._own(batch_id, context)
        job = await self._job(row)
        result = await self._submissions.result(job) if job and row.problem is None else None
        return _described(row, job, result)

    async def get_batch_result(
        self, batch_id: str, context: CurrentContext, format: ResultFormat = "parquet"
    ) -> StreamingResponse:
        row = await self._own(batch_id, context)
        if row.finished is None:
            raise Conflict(f"batch {batch_id} has no result yet; wait until its state is succeeded")
        if row.problem is not None:
            raise Conflict(f"batch {batch_id} failed and has no result: {row.problem}")
        headers = {
            "content-disposition": f'attachment; filename="predictions-{batch_id}.{format}"',
            "slipway-model": row.model,
            "slipway-version": row.version,
            "slipway-digest": row.digest,
        }
        pieces = self._store.result(batch_id)
        if format == "csv":
            pieces = await self._exports.begin("slipway_gateway.jobs.batchcsv", batch_id)
        return StreamingResponse(pieces, media_type=MEDIA_TYPES[format], headers=headers)

    async def delete_batch(self, batch_id: str, context: CurrentContext) -> None:
        row = await self._own(batch_id, context)
        job = await self._job(row)
        async with self._audit.noted(context, "batch.delete", f"batches/{batch_id}"):
            if job and not is_over(job):
                await self._submissions.cancel(PURPOSE, row.model, row.job)
        await self._store.delete(batch_id)

    async def _job(self, row: Row[Any]) -> Manifest | None:
        """Return the Job of an unfinished batch; None if the cluster no longer has it."""
        if row.finished is not None or row.job is None:
            return None
        try:
            return await self._submissions.find(PURPOSE, row.model, row.job)
        except NotFound:
            return None

    async def _own(self, batch_id: str, context: RequestContext) -> Row[Any]:
        """Return a batch of the caller. Raises NotFound, also for a batch of another caller."""
        row = (
            await self._store.get(context.caller.subject, batch_id)
            if PATTERN.fullmatch(batch_id)
            else None
        )
        if row is None:
            raise NotFound(f"batch {batch_id} does not exist")
        return row


def _described(
    row: Row[Any], job: Manifest | None, result: Mapping[str, Any] | None = None
) -> Batch:
    """Return the response for a batch.

    ``result`` is the last output line of the Job, with an error that the database does not have.
    """
    if row.finished is not None:
        batch_state = JobState.SUCCEEDED if row.problem is None else JobState.FAILED
    elif job is not None:
        # The Job ends after it has written its result: the batch runs until the row is finished.
        batch_state = JobState.RUNNING if state(job) is JobState.SUCCEEDED else state(job)
    else:
        batch_state = JobState.FAILED
    cause = None
    if batch_state is JobState.FAILED:  # a running Job may have the problem of an earlier attempt
        cause = (
            row.problem
            or (result or {}).get("reason")
            or (reason(job) if job else "the Job was deleted from the cluster")
        )
    return Batch(
        batch_id=row.batch_id,
        model=row.model,
        version=row.version,
        state=batch_state,
        rows=row.rows,
        rows_done=row.rows_done,
        rows_failed=row.rows_failed,
        created=row.created,
        finished=row.finished,
        expires=row.expires,
        reason=cause,
    )
