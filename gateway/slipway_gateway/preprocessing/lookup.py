"""Feature lookup: rows with an entity and a day get their inputs from the warehouse."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import product
from typing import Any

import orjson
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Lookup, Signature
from sqlalchemy import Row, text

from slipway_gateway.errors import Unavailable
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.telemetry.metrics import Metrics
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

ANY = "*"
"""Wildcard of a key; the warehouse has rows with it for unknown values."""
LONGEST = 200
ROW_BYTES = 64
"""Approximate JSON size in bytes of a looked-up row."""
SOON = 3.0

# The Job `etl` creates the tables. Names from a signature are bound values, never part of a
# statement.
_THERE = text(
    "SELECT to_regclass('warehouse.features') IS NOT NULL AND "
    "to_regclass('warehouse.feature_sets') IS NOT NULL"
)
_SETS = text("""
    SELECT name, columns, newest, first_day, last_day, computed, synthetic, (
        SELECT entity FROM warehouse.features WHERE feature_set = name AND day = first_day
          AND rank = 0 ORDER BY entity LIMIT 1
    ) AS example
    FROM warehouse.feature_sets WHERE name = coalesce(CAST(:name AS text), name)
""")
_ROWS = text("""
    SELECT known.day, known.entity, known.rank, known.vector
    FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked (day date, entity text[])
    JOIN warehouse.features AS known ON known.feature_set = :name AND known.day = asked.day
      AND known.entity = asked.entity
""")
# All statements read the same state of the warehouse, also when a load commits between them.
_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


@dataclass(frozen=True)
class FeatureSet:
    """The current metadata of a feature set."""

    name: str
    columns: tuple[str, ...]
    newest: date
    """Day of the newest fact in the feature set."""
    first_day: date
    last_day: date
    computed: datetime
    synthetic: bool
    example: tuple[str, ...] | None
    """Key values of an entity with features."""

    def age(self) -> float:
        """Return the seconds since the end of the newest day in UTC."""
        end = datetime.combine(self.newest + timedelta(days=1), time(), UTC)
        return max(0.0, (datetime.now(UTC) - end).total_seconds())


@dataclass(frozen=True)
class _Asked:
    """A caller's row that requires a lookup."""

    entity: tuple[str, ...]
    day: date
    given: Mapping[str, Any]
    """Inputs with a value from the caller, which overrides the lookup."""

    def candidates(self) -> Iterator[tuple[str, ...]]:
        """Yield the entity and its generalizations, with wildcards for any of its parts."""
        yield from product(*((part, ANY) for part in self.entity))


Known = Mapping[tuple[date, tuple[str, ...]], Row[Any]]
"""Rows of the warehouse by day and entity."""


class Features:
    """A client of the feature sets in the warehouse."""

    def __init__(self, database: Database, metrics: Metrics, *, seconds: float) -> None:
        self._database = database
        self._metrics = metrics
        self._seconds = seconds
        self.known: Mapping[str, FeatureSet] = {}
        """The feature sets of the last poll, for documents and metrics, not for predictions."""

    async def rows(
        self, signature: Signature, instances: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], FeatureSet | None]:
        """Return the rows with the values of all inputs, and the feature set used.

        The feature set is None without a lookup. A row without a key and a day stays unchanged.
        Raises InvalidInput, Unavailable.
        """
        lookup = signature.lookup
        size = len(instances) * ROW_BYTES
        asked = await run(size, _all_asked, lookup, instances) if lookup else []
        if lookup is None or not any(asked):
            return list(instances), None
        about, found = await self._read(lookup, [row for row in asked if row])
        names = [column.name for column in signature.inputs if column.lookup]
        if missing := [name for name in names if name not in about.columns]:
            raise Unavailable(
                f'feature set "{about.name}" has no {", ".join(missing)}, which this version '
                "requires"
            )
        return await run(size, _all_filled, instances, asked, about, found, names, lookup), about

    async def _read(self, lookup: Lookup, asked: Sequence[_Asked]) -> tuple[FeatureSet, Known]:
        """Return the feature set and its rows by day and entity. Raises Unavailable."""
        content = await run(len(asked) * ROW_BYTES, _candidates, asked)
        async with self._database.transaction() as connection:
            await connection.execute(_SNAPSHOT)
            there = (await connection.execute(_THERE)).scalar()
            name = {"name": lookup.features}
            row = (await connection.execute(_SETS, name)).first() if there else None
            if row is None:
                raise Unavailable(
                    f'feature set "{lookup.features}" does not exist; run the etl Job',
                    retry_after=60,
                )
            rows = (await connection.execute(_ROWS, {**name, "asked": content})).all()
        return _set(row), {(each.day, tuple(each.entity)): each for each in rows}

    async def keep(self) -> None:
        """Poll the feature sets and their age until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the ages of the last poll still increase
                await self._poll()
            # Frequent until the first load, so that the API document soon has an example.
            await asyncio.sleep(self._seconds if self.known else min(self._seconds, SOON))

    async def _poll(self) -> None:
        async with self._database.transaction() as connection:
            there = (await connection.execute(_THERE)).scalar()
            rows: Iterable[Row[Any]] = ()
            if there:
                rows = (await connection.execute(_SETS, {"name": None})).all()
        self.known = {row.name: _set(row) for row in rows}
        self._metrics.features({name: each.age for name, each in self.known.items()})

    def example(self, signature: Signature) -> dict[str, Any] | None:
        """Return a row for which the warehouse has features; None when there is none."""
        known = self.known.get(signature.lookup.features) if signature.lookup else None
        if known is None or known.example is None or signature.lookup is None:
            return None
        given = dict(zip(signature.lookup.keys, known.example, strict=False))
        return {**given, signature.lookup.date: known.first_day.isoformat()}


def _set(row: Row[Any]) -> FeatureSet:
    named = {
        **row._mapping,
        "columns": tuple(row.columns),
        "example": tuple(row.example) if row.example else None,
    }
    return FeatureSet(**named)


def _numbered(
    instances: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
    """Pair each row with its index for errors; the index is None for a single row."""
    return ((index if len(instances) > 1 else None, row) for index, row in enumerate(instances))


def _all_asked(lookup: Lookup, instances: Sequence[Mapping[str, Any]]) -> list[_Asked | None]:
    return [_asked(lookup, row) for row in _numbered(instances)]


def _candidates(asked: Sequence[_Asked]) -> str:
    """Return the days and entities to read as JSON."""
    wanted = {(row.day, entity) for row in asked for entity in row.candidates()}
    return orjson.dumps([{"day": day, "entity": entity} for day, entity in wanted]).decode()


def _all_filled(
    instances: Sequence[dict[str, Any]],
    asked: Sequence[_Asked | None],
    about: FeatureSet,
    found: Known,
    names: Sequence[str],
    lookup: Lookup,
) -> list[dict[str, Any]]:
    return [
        given
        if row is None
        else _filled(row, about, found, names, index if len(instances) > 1 else None, lookup)
        for index, (given, row) in enumerate(zip(instances, asked, strict=True))
    ]


def _asked(lookup: Lookup, numbered: tuple[int | None, Mapping[str, Any]]) -> _Asked | None:
    """Parse a row; return None when it requires no lookup. Raises InvalidInput."""
    index, row = numbered
    if not {*lookup.keys, lookup.date} & row.keys():
        return None
    entity = tuple(_key(name, row.get(name), index) for name in lookup.keys)
    given = {name: value for name, value in row.items() if name not in (*lookup.keys, lookup.date)}
    return _Asked(entity, _day(lookup.date, row.get(lookup.date), index), given)


def _key(name: str, value: Any, index: int | None) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST or value == ANY or "\0" in value:
        raise _invalid(name, f"must be a text of 1 to {LONGEST} letters: the key to look up", index)
    return value


def _day(name: str, value: Any, index: int | None) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise _invalid(name, "must be a day, as 2026-03-29 is", index) from None


def _invalid(name: str, problem: str, index: int | None) -> InvalidInput:
    return InvalidInput(name, problem if index is None else f"in row {index}: {problem}")


def _filled(
    row: _Asked, about: FeatureSet, found: Known, names: Sequence[str],
    index: int | None, lookup: Lookup,
) -> dict[str, Any]:  # fmt: skip
    """Return the inputs: the caller's values, else the features of the most specific entity.

    Raises InvalidInput for a day outside of the feature set, and Unavailable without features.
    """
    if not about.first_day <= row.day <= about.last_day:
        problem = (
            f'{row.day} is not a day of feature set "{about.name}", which has {about.first_day} '
            f"to {about.last_day}"
        )
        raise _invalid(lookup.date, problem, index)
    there = [each for entity in row.candidates() if (each := found.get((row.day, entity)))]
    if not there:
        raise Unavailable(
            f'feature set "{about.name}" has no row for {row.day}; run the etl Job or choose '
            "another day",
            retry_after=60,
        )
    nearest = min(there, key=lambda each: int(each.rank))
    values = dict(zip(about.columns, nearest.vector, strict=True))
    # NaN becomes null; it is the only value that differs from itself.
    looked_up = {name: values[name] if values[name] == values[name] else None for name in names}
    return {**looked_up, **row.given}
