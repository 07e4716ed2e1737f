"""Pages of predictions, newest first, from indexes of the event log.

A position is the time and id of a prediction (keyset pagination), so that a later page costs as
much as the first one. A page with filters examines at most ``EXAMINED`` predictions: it may have
fewer entries than requested, and the walk continues behind the last one that was examined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Text,
    case,
    cast,
    func,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on

from slipway_gateway.http.cursor import decoded, encoded, invalid
from slipway_gateway.postgresql.database import Database
from slipway_gateway.postgresql.tables import feedback, prediction_events

EXAMINED = 10_000
LONGEST = 2 * 2**10
"""Maximum bytes of a response or label that a list reads to shorten it."""
EVENT = prediction_events.c
KEY = (EVENT.time, EVENT.request_id)
COLUMNS = (
    *KEY,
    EVENT.model,
    EVENT.version,
    EVENT.role,
    EVENT.status,
    EVENT.latency_ms,
    EVENT.subject,
    EVENT.response,
)


class Labelled(StrEnum):
    """Predictions by their latest label."""

    NONE = "none"
    ANY = "any"
    CORRECT = "correct"
    INCORRECT = "incorrect"


@dataclass(frozen=True, slots=True)
class Position:
    """The last prediction that a page examined.

    A caller may not be allowed to read it. Its time and id, which the cursor has, give no access.
    """

    time: datetime
    request_id: str

    @property
    def cursor(self) -> str:
        """The position as opaque text."""
        return encoded(f"{self.time.astimezone(UTC).isoformat()} {self.request_id}".encode())

    @classmethod
    def of_cursor(cls, cursor: str) -> Self:
        """Return the position of a ``cursor``. Raises InvalidInput."""
        try:
            time, request_id = decoded(cursor).decode().replace("\0", "").split(" ", 1)
            return cls(datetime.fromisoformat(time).astimezone(UTC), request_id)
        except (ValueError, OverflowError):
            raise invalid() from None


@dataclass(frozen=True, slots=True)
class Page:
    """Predictions with their latest labels; ``next`` is None at the end of the list."""

    rows: Sequence[Row[Any]]
    next: Position | None


class Listing:
    """The lists of predictions. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, *, examined: int = EXAMINED) -> None:
        self._database = database
        self._examined = examined

    async def page(
        self,
        scopes: Sequence[ColumnElement[bool]],
        filters: Sequence[ColumnElement[bool]],
        *,
        bounds: Sequence[ColumnElement[bool]] = (),
        labelled: Labelled | None = None,
        after: Position | None = None,
        limit: int,
    ) -> Page:
        """Return at most ``limit`` predictions.

        ``scopes``: conditions of which each is the start of an index; a prediction of any of them
        is in the list. ``bounds``: conditions on the time.
        """
        bounds = list(bounds)
        if after is not None:
            bounds.append(tuple_(*KEY) < tuple_(after.time, after.request_id))
        last = None
        if filters or labelled:
            last = await self._last_examined(scopes, bounds)
            if last is not None:
                bounds.append(tuple_(*KEY) >= tuple_(last.time, last.request_id))
        most = self._examined if labelled else limit + 1
        query = page_query(merged(COLUMNS, scopes, [*bounds, *filters], most), labelled, limit + 1)
        rows = await self._database.run(query)
        if len(rows) > limit:
            final = rows[limit - 1]
            return Page(rows[:limit], Position(final.time, final.request_id))
        return Page(rows, last)

    async def _last_examined(
        self, scopes: Sequence[ColumnElement[bool]], bounds: Sequence[ColumnElement[bool]]
    ) -> Position | None:
        """Return the last prediction that a page examines; None if it is behind the end."""
        query = merged(KEY, scopes, bounds, self._examined).offset(self._examined - 1)
        rows = await self._database.run(query)
        return Position(rows[0].time, rows[0].request_id) if rows else None


def merged(
    columns: Sequence[ColumnElement[Any]],
    scopes: Sequence[ColumnElement[bool]],
    conditions: Sequence[ColumnElement[bool]],
    most: int,
) -> Select[Any]:
    """Return the query of the newest predictions of all scopes, at most ``most`` and each once.

    PostgreSQL merges one scan of an index for each scope, and stops at the limit.
    """
    newest = [each.desc() for each in KEY]
    branches = [
        select(*columns).where(scope, *conditions).order_by(*newest).limit(most) for scope in scopes
    ]
    if len(branches) == 1:
        return branches[0]
    both = union_all(*(branch.subquery().select() for branch in branches)).subquery()
    key = (both.c.time, both.c.request_id)
    each_once = select(both).ext(distinct_on(*key)).order_by(*(each.desc() for each in key))
    return each_once.limit(most)


def page_query(events: Select[Any], labelled: Labelled | None, limit: int) -> Select[Any]:
    """Return the query that adds their latest label to the predictions of ``merged``."""
    event = events.subquery()
    latest = (
        select(feedback.c.label, feedback.c.rows, feedback.c.correct)
        .where(feedback.c.request_id == event.c.request_id)
        .where(func.jsonb_typeof(feedback.c.label) != "null")
        .order_by(feedback.c.time.desc())
        .limit(1)
        .lateral()
    )
    is_correct = case((latest.c.rows > 0, latest.c.correct == latest.c.rows))
    kinds = {
        Labelled.NONE: latest.c.label.is_(None),
        Labelled.ANY: latest.c.label.is_not(None),
        Labelled.CORRECT: is_correct,
        Labelled.INCORRECT: ~is_correct,
    }
    has_short_response = func.octet_length(event.c.response) <= LONGEST
    has_short_label = func.octet_length(cast(latest.c.label, Text)) <= LONGEST
    return (
        select(
            *(each for each in event.c if each.name != "response"),
            case((has_short_response, event.c.response)).label("response"),
            case((has_short_label, latest.c.label)).label("label"),
            is_correct.label("is_correct"),
        )
        .select_from(event.outerjoin(latest, true()))
        .where(kinds[labelled] if labelled else true())
        .order_by(event.c.time.desc(), event.c.request_id.desc())
        .limit(limit)
    )
