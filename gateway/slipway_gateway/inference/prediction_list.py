"""The list of logged predictions, ``GET /v1/predictions``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field
from slipway_contract.errors import InvalidInput
from sqlalchemy import ColumnElement, Row, or_, true

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, SCIENTIFIC, Permission
from slipway_gateway.errors import Forbidden
from slipway_gateway.eventlog.label_match import short, short_prediction
from slipway_gateway.eventlog.listing import EVENT, LONGEST, Labelled, Listing, Position
from slipway_gateway.eventlog.shipper import Shipper
from slipway_gateway.http.schema import Schema, Time
from slipway_gateway.identity import subjects
from slipway_gateway.identity.roles import Role
from slipway_gateway.inference.routing import Routes
from slipway_gateway.threads import run

MOST_MERGED = 30
"""Maximum number of granted models whose predictions PostgreSQL merges by index."""
Text = Annotated[str | None, Query(max_length=253, pattern=r"^[^\x00-\x1f\x7f]+$")]


class PredictionEntry(Schema):
    """A logged prediction; its receipt also has the inputs."""

    request_id: str
    time: datetime
    model: str
    version: str
    role: str = Field(description="traffic role of the version")
    status: int
    latency_ms: float
    caller: str
    prediction: Any = Field(
        description=(
            "the output that a label refers to, at most 5 values; null without a response, and for "
            "one of more than 2 KiB"
        )
    )
    label: Any = Field(
        description=(
            "the latest label, at most 5 values; null without one, and for one of more than 2 KiB"
        )
    )
    correct: bool | None = Field(
        description="the label equals the prediction; null if they cannot be compared"
    )


class PredictionList(Schema):
    """Predictions, newest first."""

    predictions: list[PredictionEntry]
    next_cursor: str | None = Field(
        description=(
            "the `cursor` of the next page; null at the end. A page with filters may have fewer "
            "entries than `limit`, or none"
        )
    )


class PredictionLog:
    """The route of the list of predictions."""

    def __init__(
        self, routes: Routes, grants: GrantWatch, listing: Listing, shipper: Shipper
    ) -> None:
        self._routes = routes
        self._grants = grants
        self._listing = listing
        self._shipper = shipper

    def router(self) -> Router:
        router = Router(prefix="/v1/predictions", responses=PROBLEMS, tags=["predictions"])
        router.add(
            "GET",
            self.list_predictions,
            Permission("predictions", ALL),
            summary="List predictions",
            description=(
                "Users and service accounts get their own predictions, scientists also those of "
                "the models granted to them, and admins all."
            ),
        )
        return router

    async def list_predictions(
        self,
        context: CurrentContext,
        model: Text = None,
        version: Text = None,
        caller: Annotated[
            Text, Query(description="`user:ada` or `client:nightly`; for scientists and admins")
        ] = None,
        since: Annotated[Time | None, Query(description="inclusive")] = None,
        until: Annotated[Time | None, Query(description="exclusive")] = None,
        status: Annotated[
            str | None, Query(pattern="^[1-5]([0-9][0-9]|xx)$", description="`422`, or `5xx`")
        ] = None,
        label: Labelled | None = None,
        cursor: Annotated[str | None, Query(max_length=1000)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> PredictionList:
        after = None if cursor is None else Position.of_cursor(cursor)
        if since and until and since >= until:
            raise InvalidInput("since", "is not before until")
        scopes, filters = self._visible(context, model, caller and subjects.read(caller))
        filters += [EVENT.version == version] if version else []
        filters += [_has_status(status)] if status else []
        bounds = [EVENT.time >= since] if since else []
        bounds += [EVENT.time < until] if until else []
        if after is None:  # the first page has the latest predictions of this gateway
            await self._shipper.flush()
        page = await self._listing.page(
            scopes, filters, bounds=bounds, labelled=label, after=after, limit=limit
        )
        entries = await run(len(page.rows) * 2 * LONGEST, _entries, page.rows)
        return PredictionList(predictions=entries, next_cursor=page.next and page.next.cursor)

    def _visible(
        self, context: RequestContext, model: str | None, subject: str | None
    ) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
        """Return the scopes and filters of the predictions that the caller may list.

        Raises Forbidden.
        """
        caller, own = context.caller, EVENT.subject == context.caller.subject
        of_model = [EVENT.model == model] if model else []
        if not caller.roles & SCIENTIFIC and subject not in (None, caller.subject):
            raise Forbidden(
                "caller requires the role scientist or admin; omit it to list your own predictions"
            )
        if not caller.roles & SCIENTIFIC or subject == caller.subject:
            return [own], of_model
        if Role.ADMIN in caller.roles:
            if subject:
                return [EVENT.subject == subject], of_model
            return of_model or [true()], []
        granted = self._granted(context, [model] if model else sorted(self._routes.snapshot))
        if subject:
            return [EVENT.subject == subject], [EVENT.model.in_(granted)]
        if model:
            return (of_model, []) if granted else ([own], of_model)
        if len(granted) <= MOST_MERGED:
            return [own, *(EVENT.model == each for each in granted)], []
        return [true()], [or_(own, EVENT.model.in_(granted))]

    def _granted(self, context: RequestContext, models: list[str]) -> list[str]:
        find, now = self._grants.snapshot.find, context.arrived
        return [each for each in models if find(context.caller, each, now, exists=False)]


def _entries(rows: Sequence[Row[Any]]) -> list[PredictionEntry]:
    return [
        PredictionEntry(
            request_id=row.request_id,
            time=row.time,
            model=row.model,
            version=row.version,
            role=row.role,
            status=row.status,
            latency_ms=row.latency_ms,
            caller=row.subject,
            prediction=short_prediction(row.response),
            label=short(row.label),
            correct=row.is_correct,
        )
        for row in rows
    ]


def _has_status(status: str) -> ColumnElement[bool]:
    """Return the condition of a status such as 422 or 5xx."""
    if status.endswith("xx"):
        first = 100 * int(status[0])
        return EVENT.status.between(first, first + 99)
    return EVENT.status == int(status)
