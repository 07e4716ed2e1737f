"""Receipts, feedback and images of predictions under ``/v1/predictions``."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import Path, Response
from slipway_contract.events import FeedbackEvent
from sqlalchemy import Row

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission, Spending
from slipway_gateway.errors import NotFound
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.label_match import judge
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.identity.roles import Role
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.schemas import (
    Dataset,
    FeedbackAnswer,
    FeedbackList,
    FeedbackRequest,
    ImageLink,
    Receipt,
)
from slipway_gateway.preprocessing.form import MOST
from slipway_gateway.preprocessing.image_decoder import kind_of
from slipway_gateway.requestid import PATTERN, new_id
from slipway_gateway.telemetry.metrics import Metrics

INERT = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "content-disposition": "attachment",
}
"""Headers that prevent a browser from executing an uploaded file."""

FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


class Receipts:
    """The routes of logged predictions."""

    def __init__(
        self,
        metadata_cache: ModelMetadataCache,
        events: EventLog,
        shipper: Shipper,
        image_store: ImageStore,
        grants: GrantWatch,
        metrics: Metrics,
    ) -> None:
        self._metadata_cache = metadata_cache
        self._events = events
        self._shipper = shipper
        self._image_store = image_store
        self._grants = grants
        self._metrics = metrics

    def router(self) -> Router:
        router = Router(
            prefix="/v1/predictions/{request_id}", responses=PROBLEMS, tags=["predictions"]
        )
        read = Permission("receipt", ALL)
        router.add("GET", self.get_receipt, read, summary="Return the receipt of a prediction")
        router.add(
            "POST /feedback",
            self.create_feedback,
            Permission("feedback", ALL, Spending.FEEDBACK),
            status_code=201,
            summary="Add feedback on a prediction",
        )
        router.add(
            "GET /feedback", self.list_feedback, read, summary="List feedback on a prediction"
        )
        router.add(
            "GET /images/{number}",
            self.get_image,
            read,
            summary="Return an input image of a prediction",
            response_class=Response,
            responses=FILE,
        )
        return router

    async def get_receipt(self, request_id: str, context: CurrentContext) -> Receipt:
        row = await self._find(request_id, context, Role.ADMIN)
        provenance = await self._metadata_cache.provenance(row.digest)
        feedback = await self._events.feedback(request_id)
        stored = await self._image_store.list(request_id)
        images = [
            ImageLink(
                number=each.number,
                digest=each.digest,
                url=f"/v1/predictions/{request_id}/images/{each.number}",
            )
            for each in stored
        ]
        return _receipt(row, provenance, feedback, images)

    async def list_feedback(self, request_id: str, context: CurrentContext) -> FeedbackList:
        await self._find(request_id, context, Role.ADMIN)
        return FeedbackList(
            feedback=[
                FeedbackAnswer.model_validate(row._asdict())
                for row in await self._events.feedback_history(request_id)
            ]
        )

    async def get_image(
        self, request_id: str, number: Annotated[int, Path(ge=0, lt=MOST)], context: CurrentContext
    ) -> Response:
        await self._find(request_id, context, Role.SCIENTIST, Role.ADMIN)
        found = await self._image_store.image(request_id, number)
        if found is None:
            raise NotFound(f"prediction {request_id} has no image {number}, or it was deleted")
        return Response(
            found.content,
            media_type=kind_of(found.content),
            headers={**INERT, "slipway-digest": found.digest},
        )

    async def create_feedback(
        self, request_id: str, body: FeedbackRequest, context: CurrentContext
    ) -> FeedbackAnswer:
        row = await self._find(request_id, context, Role.SERVICE)
        found = judge(await self._metadata_cache.outputs(row.digest), row.response, body.label)
        event = FeedbackEvent(
            feedback_id=new_id(),
            request_id=request_id,
            time=datetime.now(UTC),
            subject=context.caller.subject,
            label=found.label,
            comment=body.comment,
            rows=found.rows,
            correct=found.correct,
        )
        await self._events.add_feedback(event)
        if found.rows is not None and found.correct is not None:
            self._metrics.labelled(row.model, row.version, found.rows, found.correct)
        return FeedbackAnswer.model_validate(event.model_dump())

    async def _find(self, request_id: str, context: RequestContext, *others: Role) -> Row[Any]:
        """Return a logged prediction of the caller, or of any caller with one of the roles.

        A service account also needs a grant of the model. Raises NotFound, also for a prediction
        that the caller may not see.
        """
        row = await self._logged(request_id) if PATTERN.fullmatch(request_id) else None
        caller = context.caller
        if row is not None and row.subject == caller.subject:
            return row
        roles = caller.roles & set(others)
        if row is not None and roles:
            granted = self._grants.snapshot.find
            if roles != {Role.SERVICE} or granted(caller, row.model, context.arrived):
                return row
        raise NotFound(f"prediction {request_id} does not exist")

    async def _logged(self, request_id: str) -> Row[Any] | None:
        row = await self._events.prediction(request_id)
        if row is None:  # the event of a recent prediction may be in the spool
            await self._shipper.flush()
            row = await self._events.prediction(request_id)
        return row


def _receipt(
    row: Row[Any], provenance: dict[str, Any], feedback: Row[Any] | None, images: list[ImageLink]
) -> Receipt:
    dataset = provenance.get("dataset")
    return Receipt(
        request_id=row.request_id,
        time=row.time,
        model=row.model,
        version=row.version,
        digest=row.digest,
        verified=row.verified,
        run_id=row.run_id or provenance.get("runId"),
        dataset=Dataset.model_validate(dataset) if isinstance(dataset, dict) else None,
        git_revision=provenance.get("gitRevision"),
        image=provenance.get("image"),
        role=row.role,
        caller=row.subject,
        decision=row.decision,
        protocol=row.protocol,
        status=row.status,
        latency_ms=row.latency_ms,
        request=_content(row.request),
        response=_content(row.response),
        bodies_removed=row.bodies_removed,
        feedback=FeedbackAnswer.model_validate(feedback._asdict()) if feedback else None,
        images=images,
    )


def _content(body: str | None) -> Any:
    """Return a logged body as JSON, or as text for a malformed request."""
    if body is None:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
