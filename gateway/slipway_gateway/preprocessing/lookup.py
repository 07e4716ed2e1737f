"""Feature lookup: rows with the keys of a feature set get their inputs from its rows."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.features import FeatureSet, KeyType
from slipway_contract.signature import Lookup, Signature
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from slipway_gateway.errors import Unavailable
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.telemetry.metrics import Metrics
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

ROW_BYTES = 64
"""Approximate JSON size in bytes of a looked-up row."""
SOON = 3.0
MOST_PARSED = 256
"""Maximum number of declarations that are parsed once for many requests."""

# Jobs write the tables. Names from a signature are bound values, never part of a statement.
# xmin changes with each update, also with one in SQL that leaves ``computed`` as it is.
_STATE = text("SELECT name, computed, xmin::text AS state FROM feature_sets WHERE name = :name")
_SETS = text("""
    SELECT name, description, owner, keys, columns, newest, max_age_seconds, time_zone, synthetic,
      models, computed, xmin::text AS state
    FROM feature_sets WHERE name = coalesce(CAST(:name AS text), name) ORDER BY name
""")
# It reads all rows with a wildcard in the first key, and is not part of any request.
_EXAMPLES = text("""
    SELECT name, (
        SELECT key FROM feature_rows WHERE feature_set = name AND NOT '*' = ANY(key)
          ORDER BY key LIMIT 1
    ) AS key FROM feature_sets
""")
_DAYS = text(
    "SELECT min(value), max(value) FROM feature_keys WHERE feature_set = :name AND key = :key"
)
_ROWS = text("""
    SELECT known.key, known.vector
    FROM jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked (key text[])
    JOIN feature_rows AS known ON known.feature_set = :name AND known.key = asked.key
""")
_VALUES = text("""
    SELECT value FROM feature_keys
    WHERE feature_set = :name AND key = :key AND value >= :prefix AND value < :prefix || :last
      AND value > :after
    ORDER BY value LIMIT :limit
""")
_LAST = "\U0010ffff"
"""The last code point: every text that starts with a prefix is before the prefix with it."""
# All statements read the same state of the tables, also when a Job commits between them.
_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

Vectors = Mapping[tuple[str, ...], Sequence[Any]]
"""Values of the columns by key."""


@dataclass(frozen=True)
class StoredSet:
    """A feature set as it is stored."""

    declared: FeatureSet
    computed: datetime

    def age(self) -> float:
        """Return the seconds since the end of the newest day in UTC."""
        return self.declared.age(datetime.now(UTC))


@dataclass(frozen=True)
class _Asked:
    """A caller's row that requires a lookup."""

    index: int | None
    """Position of the row for errors; None for a single row."""
    key: tuple[str, ...]
    given: Mapping[str, Any]
    """Inputs with a value from the caller, which overrides the lookup."""
    names_day: bool
    """False: the day is the default of the feature set."""


class Features:
    """A client of the feature sets that Jobs published."""

    def __init__(self, database: Database, metrics: Metrics, *, seconds: float) -> None:
        self._database = database
        self._metrics = metrics
        self._seconds = seconds
        self.known: Mapping[str, StoredSet] = {}
        """The feature sets of the last poll, for documents and metrics, not for predictions."""
        self._examples: Mapping[str, Sequence[str]] = {}
        """Keys of a row without wildcards by feature set, of the last poll."""
        self._parsed: dict[str, tuple[tuple[datetime, str], StoredSet]] = {}
        """Feature sets by name, each with the state of its row."""

    async def rows(
        self, model: str, signature: Signature, instances: Sequence[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], StoredSet | None]:
        """Return the rows with the values of all inputs, and the feature set used.

        The feature set is None without a lookup. A row without any key stays unchanged.
        Raises InvalidInput, Unavailable.
        """
        lookup = signature.lookup
        if lookup is None or all(row.keys().isdisjoint(lookup.names) for row in instances):
            return list(instances), None
        size, days = len(instances) * ROW_BYTES, ("", "")
        async with self._database.transaction() as connection:
            await connection.execute(_SNAPSHOT)
            stored = await self._read(connection, lookup)
            _check(model, stored.declared, signature, lookup)
            asked = await run(size, _all_asked, stored.declared, lookup, instances)
            content = await run(size, _candidates, stored.declared, asked)
            name = {"name": lookup.features}
            found = (await connection.execute(_ROWS, {**name, "asked": content})).all()
            if day := stored.declared.day:
                first, last = (await connection.execute(_DAYS, {**name, "key": day.name})).one()
                days = (first or "", last or "")
        vectors = {tuple(each.key): each.vector for each in found}
        names = [column.name for column in signature.inputs if column.lookup]
        filling = _Filling(stored.declared, vectors, days, names)
        return await run(size, filling.all, instances, asked), stored

    async def sets(self) -> list[StoredSet]:
        """Return all feature sets by name; one whose declaration is invalid is logged and left out.

        Raises DatabaseUnavailable.
        """
        found = []
        async with self._database.transaction() as connection:
            rows: Iterable[Row[Any]] = (await connection.execute(_SETS, {"name": None})).all()
        for row in rows:
            try:
                found.append(self._stored(row))
            except Unavailable as error:
                log.warning("%s", error)
        return found

    async def values(self, name: str, key: str, prefix: str, after: str, limit: int) -> list[str]:
        """Return at most ``limit`` values of a key behind ``after`` in the order of code points.

        Raises DatabaseUnavailable.
        """
        given = {"name": name, "key": key, "prefix": prefix, "after": after, "last": _LAST}
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_VALUES, {**given, "limit": limit})).all()
        return [row.value for row in rows]

    async def keep(self) -> None:
        """Poll the feature sets and their age until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the ages of the last poll still increase
                self.known = {each.declared.name: each for each in await self.sets()}
                rows = await self._database.run(_EXAMPLES)
                self._examples = {row.name: row.key for row in rows if row.key}
                self._metrics.features({name: each.age for name, each in self.known.items()})
            # Frequent until the first load, so that the API document soon has an example.
            await asyncio.sleep(self._seconds if self.known else min(self._seconds, SOON))

    def admitted(self, model: str, lookup: Lookup) -> StoredSet | None:
        """Return the feature set of a Model's lookup, of the last poll; None without one."""
        known = self.known.get(lookup.features)
        return known if known and known.declared.admits(model) else None

    def example(self, known: StoredSet | None) -> dict[str, Any] | None:
        """Return a row for which there are features; None when there is none."""
        example = self._examples.get(known.declared.name) if known else None
        if known is None or example is None or len(example) != len(known.declared.keys):
            return None
        return {
            key.name: int(value) if key.type is KeyType.INTEGER else value
            for key, value in zip(known.declared.keys, example, strict=True)
        }

    async def _read(self, connection: AsyncConnection, lookup: Lookup) -> StoredSet:
        """Return the feature set of a lookup. Raises Unavailable."""
        name = {"name": lookup.features}
        row = (await connection.execute(_STATE, name)).first()
        if row is None:
            raise Unavailable(
                f'feature set "{lookup.features}" does not exist; run the Job that publishes it',
                retry_after=60,
            )
        if (known := self._known(row)) is not None:
            return known
        return self._stored((await connection.execute(_SETS, name)).one())

    def _known(self, row: Row[Any]) -> StoredSet | None:
        state, stored = self._parsed.get(row.name, (None, None))
        return stored if state == (row.computed, row.state) else None

    def _stored(self, row: Row[Any]) -> StoredSet:
        """Return the feature set in a row. Raises Unavailable when its declaration is invalid."""
        if (known := self._known(row)) is not None:
            return known
        stored = _parse(row)
        self._parsed.pop(row.name, None)
        while len(self._parsed) >= MOST_PARSED:
            del self._parsed[next(iter(self._parsed))]
        self._parsed[row.name] = ((row.computed, row.state), stored)
        return stored


def _parse(row: Row[Any]) -> StoredSet:
    """Return the feature set in a row. Raises Unavailable when its declaration is invalid."""
    fields = {name: getattr(row, name) for name in FeatureSet.model_fields}
    try:
        declared = FeatureSet.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Unavailable(
            f'feature set "{row.name}" has an invalid declaration: {place}: {first["msg"]}; '
            "correct the Job that publishes it"
        ) from None
    return StoredSet(declared, row.computed)


def _check(model: str, declared: FeatureSet, signature: Signature, lookup: Lookup) -> None:
    """Raise Unavailable unless the feature set admits the Model and has its keys and values."""
    if not declared.admits(model):
        raise Unavailable(
            f'feature set "{declared.name}" does not admit the model {model}; its owner, '
            f"{declared.owner}, names the models in its declaration"
        )
    keys = [key.name for key in declared.keys]
    if set(keys) != set(lookup.names):
        raise Unavailable(
            f'feature set "{declared.name}" has the keys {", ".join(keys)}, and this version '
            f"requires {', '.join(lookup.names)}"
        )
    columns = {column.name: column for column in declared.columns}
    missing = [
        column.name
        for column in signature.inputs
        if column.lookup
        and (column.name not in columns or not columns[column.name].serves(column.datatype))
    ]
    if missing:
        raise Unavailable(
            f'feature set "{declared.name}" has no {", ".join(missing)} of the type that this '
            "version requires"
        )


def _numbered(instances: Sequence[Any]) -> Iterator[tuple[int | None, Any]]:
    """Pair each row with its index for errors; the index is None for a single row."""
    return ((index if len(instances) > 1 else None, row) for index, row in enumerate(instances))


def _all_asked(
    declared: FeatureSet, lookup: Lookup, instances: Sequence[Mapping[str, Any]]
) -> list[_Asked | None]:
    """Parse the rows; None for a row that requires no lookup. Raises InvalidInput."""
    now, names = datetime.now(UTC), set(lookup.names)
    asked: list[_Asked | None] = []
    for index, row in _numbered(instances):
        if names.isdisjoint(row):
            asked.append(None)
            continue
        try:
            key = declared.key(row, now)
        except InvalidInput as error:
            raise _invalid(error.field, error.problem, index) from None
        given = {name: value for name, value in row.items() if name not in names}
        names_day = declared.day is None or row.get(declared.day.name) is not None
        asked.append(_Asked(index, key, given, names_day))
    return asked


def _candidates(declared: FeatureSet, asked: Sequence[_Asked | None]) -> str:
    """Return the keys to read as JSON."""
    wanted = {key for row in asked if row for key in declared.candidates(row.key)}
    return orjson.dumps([{"key": key} for key in wanted]).decode()


def _invalid(name: str, problem: str, index: int | None) -> InvalidInput:
    return InvalidInput(name, problem if index is None else f"in row {index}: {problem}")


@dataclass(frozen=True)
class _Filling:
    """The values that were read for the rows of a request."""

    declared: FeatureSet
    vectors: Vectors
    days: tuple[str, str]
    names: Sequence[str]

    def all(
        self, instances: Sequence[dict[str, Any]], asked: Sequence[_Asked | None]
    ) -> list[dict[str, Any]]:
        """Return the rows of a request with all inputs. Raises InvalidInput, Unavailable."""
        return [
            given if row is None else {**self._values(row), **row.given}
            for given, row in zip(instances, asked, strict=True)
        ]

    def _values(self, row: _Asked) -> dict[str, Any]:
        """Return the inputs from the most specific row that matches."""
        name, day = self.declared.name, self.declared.day
        if day:
            if not self.days[0]:
                raise Unavailable(
                    f'feature set "{name}" has no rows; run the Job that publishes it',
                    retry_after=60,
                )
            value = row.key[self.declared.keys.index(day)]
            if not self.days[0] <= value <= self.days[1]:
                problem = (
                    f'{value} is not a day of feature set "{name}", which has {self.days[0]} to '
                    f"{self.days[1]}"
                )
                if not row.names_day:  # the caller cannot correct it
                    raise Unavailable(f"{problem}; run the Job that publishes it", retry_after=60)
                raise _invalid(day.name, problem, row.index)
        candidates = self.declared.candidates(row.key)
        vector = next((self.vectors[key] for key in candidates if key in self.vectors), None)
        if vector is None:
            problem = (
                f'feature set "{name}" has no row for {", ".join(row.key)}; '
                "GET /v1/features lists its keys"
            )
            raise _invalid(self.declared.keys[0].name, problem, row.index)
        columns = [column.name for column in self.declared.columns]
        if not isinstance(vector, list) or len(vector) != len(columns):
            raise Unavailable(
                f'feature set "{name}" has a row with other values than its columns; correct the '
                "Job that publishes it"
            )
        values = dict(zip(columns, vector, strict=True))
        return {each: values[each] for each in self.names}
