"""Labels under ``/v1``: the labelled predictions of a model as Parquet and its accuracy."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field
from slipway_contract.errors import InvalidInput
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import JSONB, distinct_on

from slipway_gateway.access.route import PROBLEMS, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission
from slipway_gateway.control.exports import Exports
from slipway_gateway.http.schema import Schema, Time
from slipway_gateway.inference.routing import Routes
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import feedback, prediction_events

DAYS = timedelta(days=30)
PARQUET = "application/vnd.apache.parquet"
Since = Annotated[
    Time | None,
    Query(description="start of the interval, inclusive; default: 30 days before `until`"),
]
Until = Annotated[Time | None, Query(description="end of the interval, exclusive; default: now")]
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}}}
}


class VersionAccuracy(Schema):
    """The accuracy of a version on its labelled predictions."""

    version: str
    digest: str
    predictions: int = Field(description="predictions with a label that can be compared")
    rows: int
    correct: int
    accuracy: float = Field(ge=0, le=1, description="correct / rows")


class Accuracy(Schema):
    """Accuracy by version, from the latest label of each prediction.

    The labelled predictions are not a random sample, so the accuracy may be biased.
    """

    model: str
    since: datetime
    until: datetime
    versions: list[VersionAccuracy]


class Labels:
    """The label routes."""

    def __init__(self, routes: Routes, database: Database, exports: Exports) -> None:
        self._routes = routes
        self._database = database
        self._exports = exports

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS, tags=["labels"])
        labels = Permission("labels", SCIENTIFIC)
        router.add(
            "GET /models/{model}/accuracy",
            self.get_accuracy,
            labels,
            summary="Return the accuracy by version",
        )
        router.add(
            "GET /models/{model}/feedback.parquet",
            self.export_feedback,
            labels,
            summary="Return labelled predictions as Parquet",
            response_class=StreamingResponse,
            responses=FILE,
        )
        return router

    async def get_accuracy(self, model: str, since: Since = None, until: Until = None) -> Accuracy:
        self._routes.get(model)
        start, end = _window(since, until)
        event, label = prediction_events.c, feedback.c
        latest = (
            select(event.version, event.digest, label.rows, label.correct)
            .join(feedback, label.request_id == event.request_id)
            .where(
                event.model == model,
                event.time >= start,
                event.time < end,
                label.label != JSONB.NULL,
            )
            .ext(distinct_on(event.request_id))
            .order_by(event.request_id, label.time.desc())
            .subquery()
        )
        columns = latest.c.version, latest.c.digest
        sums = (
            func.count().label("predictions"),
            func.sum(latest.c.rows).label("rows"),
            func.sum(latest.c.correct).label("correct"),
        )
        found = await self._database.run(
            select(*columns, *sums).where(latest.c.rows > 0).group_by(*columns).order_by(*columns)
        )
        versions = [
            VersionAccuracy(**row._mapping, accuracy=row.correct / row.rows) for row in found
        ]
        return Accuracy(model=model, since=start, until=end, versions=versions)

    async def export_feedback(
        self, model: str, since: Since = None, until: Until = None
    ) -> StreamingResponse:
        self._routes.get(model)
        start, end = _window(since, until)
        pieces = await self._exports.begin(
            "slipway_gateway.eventlog.export", model, start.isoformat(), end.isoformat()
        )
        headers = {"content-disposition": f'attachment; filename="{model}-feedback.parquet"'}
        return StreamingResponse(pieces, media_type=PARQUET, headers=headers)


def _window(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """Return the start and end of the interval in UTC. Raises InvalidInput."""
    try:
        end = until.astimezone(UTC) if until else datetime.now(UTC)
        start = since.astimezone(UTC) if since else end - DAYS
    except OverflowError:
        raise InvalidInput("since", "is before the year 1") from None
    if start >= end:
        raise InvalidInput("since", "is not before until")
    return start, end
