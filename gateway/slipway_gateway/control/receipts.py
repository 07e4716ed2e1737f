"""The story of each prediction, and what became of it, under ``/v1/predictions``."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Response
from slipway_contract.events import FeedbackEvent
from sqlalchemy import Row

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import (
    Dataset,
    FeedbackAnswer,
    FeedbackList,
    FeedbackRequest,
    ImageLink,
    Receipt,
)
from slipway_gateway.errors import NotFound
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.eventlog.label_match import judge
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.identity.roles import Role
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.preprocessing.form import MOST
from slipway_gateway.preprocessing.image_decoder import kind_of
from slipway_gateway.requestid import PATTERN, new_id
from slipway_gateway.telemetry.metrics import Metrics

INERT = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "content-disposition": "attachment",
}
"""What somebody uploaded is nothing to be run here."""

FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
}


class Receipts:
    """The routes and what they work with."""

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

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1/predictions/{request_id}", responses=PROBLEMS)
        router.get("", summary="The receipt of a prediction")(self.receipt)
        router.post("/feedback", status_code=201, summary="Say what became known")(
            self.give_feedback
        )
        router.get("/feedback", summary="All that was said of it, the latest first")(self.history)
        router.get(
            "/images/{number}",
            summary="An image that it was made from",
            response_class=Response,
            responses=FILE,
        )(self.image)
        return router

    async def receipt(self, request_id: str, context: CurrentCall) -> Receipt:
        row = await self._find(request_id, context, Role.ADMIN)
        provenance = await self._metadata_cache.provenance(row.digest)
        feedback = await self._events.feedback(request_id)
        kept = await self._image_store.list(request_id)
        images = [
            ImageLink(
                number=each.number,
                digest=each.digest,
                url=f"/v1/predictions/{request_id}/images/{each.number}",
            )
            for each in kept
        ]
        return _receipt(row, provenance, feedback, images)

    async def history(self, request_id: str, context: CurrentCall) -> FeedbackList:
        await self._find(request_id, context, Role.ADMIN)
        return FeedbackList(
            feedback=[
                FeedbackAnswer.model_validate(row._asdict())
                for row in await self._events.said(request_id)
            ]
        )

    async def image(
        self, request_id: str, number: Annotated[int, Path(ge=0, lt=MOST)], context: CurrentCall
    ) -> Response:
        await self._find(request_id, context, Role.SCIENTIST, Role.ADMIN)
        found = await self._image_store.image(request_id, number)
        if found is None:
            raise NotFound(f"there is no image {number} of prediction {request_id}, or no more")
        return Response(
            found.content,
            media_type=kind_of(found.content),
            headers={**INERT, "slipway-digest": found.digest},
        )

    async def give_feedback(
        self, request_id: str, said: FeedbackRequest, context: CurrentCall
    ) -> FeedbackAnswer:
        row = await self._find(request_id, context, Role.SERVICE)
        found = judge(await self._metadata_cache.outputs(row.digest), row.response, said.label)
        event = FeedbackEvent(
            feedback_id=new_id(),
            request_id=request_id,
            time=datetime.now(UTC),
            subject=context.caller.subject,
            label=found.label,
            comment=said.comment,
            rows=found.rows,
            correct=found.correct,
        )
        await self._events.add_feedback(event)
        if found.rows is not None and found.correct is not None:
            self._metrics.labelled(row.model, row.version, found.rows, found.correct)
        return FeedbackAnswer.model_validate(event.model_dump())

    async def _find(self, request_id: str, context: RequestContext, *others: Role) -> Row[Any]:
        """The logged prediction, also one of a moment ago: the caller's own; with one of the other
        roles anybody's.

        A service account needs a grant of the model for that. What is not to be seen does not
        exist. Raises NotFound.
        """
        row = await self._logged(request_id) if PATTERN.fullmatch(request_id) else None
        caller = context.caller
        if row is not None and row.subject == caller.subject:
            return row
        may = caller.roles & set(others)
        if (
            row is None
            or not may
            or (
                may == {Role.SERVICE}
                and not self._grants.snapshot.find(caller, row.model, context.arrived)
            )
        ):
            raise NotFound(f"there is no prediction {request_id}")
        return row

    async def _logged(self, request_id: str) -> Row[Any] | None:
        row = await self._events.prediction(request_id)
        if row is None:
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
        feedback=FeedbackAnswer.model_validate(feedback._asdict()) if feedback else None,
        images=images,
    )


def _content(body: str | None) -> Any:
    """A logged body as JSON; as text when it is not (a malformed request is logged too)."""
    if body is None:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
