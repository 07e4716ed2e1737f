"""The event log in PostgreSQL: predictions, feedback, and metadata of the versions they name."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic.alias_generators import to_camel
from slipway_contract.events import FeedbackEvent, PredictionEvent
from slipway_contract.v2 import ModelMetadata
from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert

from slipway_gateway.eventlog.storage import Storage
from slipway_gateway.limits.ledger import TALLY
from slipway_gateway.postgresql.database import ConstraintViolation, Database
from slipway_gateway.postgresql.tables import feedback, model_versions, prediction_events


def _ship_statement() -> str:
    """Build the statement that inserts events from a JSON array.

    PostgreSQL parses the JSON, which saves the gateway the time. The same statement adds exactly
    the inserted rows to the quota ledger, so that ledger and log agree.
    """
    columns = [prediction_events.c[name] for name in PredictionEvent.model_fields]
    names = ", ".join(column.name for column in columns)
    values = ", ".join(f'event."{to_camel(column.name)}"' for column in columns)
    # A spool may deliver events of a user after the user's erasure (see erasure.py).
    values = values.replace('event."subject"', 'coalesce(deprovisioned.pseudonym, event."subject")')
    # This text contains only identifiers of our own table.
    types = ", ".join(f'"{to_camel(column.name)}" {column.type.compile()}' for column in columns)
    types = types.replace("DATETIME", "TIMESTAMP WITH TIME ZONE").replace(
        "DOUBLE", "DOUBLE PRECISION"
    )
    source = f"json_to_recordset(CAST(:lines AS json)) AS event({types})"
    source += (
        ' LEFT JOIN deprovisioned ON deprovisioned.subject = event."subject" AND event."time" <= '
        "deprovisioned.until"
    )
    insert = (
        f"INSERT INTO prediction_events ({names}) SELECT {values} FROM {source} ON CONFLICT "  # noqa: S608
        "(request_id) DO NOTHING"
    )
    return f"WITH shipped AS ({insert} RETURNING *), {TALLY}"


SHIP = text(_ship_statement())


class EventLog:
    """Reads and writes of the event log. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._run = database.run
        self._transaction = database.transaction
        self._storage = storage

    async def ship(self, lines: list[bytes]) -> None:
        """Insert events given as JSON lines; known request ids are skipped.

        Raises ConstraintViolation.
        """
        try:
            content = b",".join(lines).decode()
        except UnicodeDecodeError as error:
            raise ConstraintViolation(str(error)) from error
        await self._run(SHIP, {"lines": f"[{content}]"})

    async def prediction(self, request_id: str) -> Row[Any] | None:
        rows = await self._run(
            select(prediction_events).where(prediction_events.c.request_id == request_id)
        )
        return rows[0] if rows else None

    async def feedback(self, request_id: str) -> Row[Any] | None:
        """Return the latest feedback on a prediction."""
        query = (
            select(feedback)
            .where(feedback.c.request_id == request_id)
            .order_by(feedback.c.time.desc())
            .limit(1)
        )
        rows = await self._run(query)
        return rows[0] if rows else None

    async def feedback_history(self, request_id: str) -> Sequence[Row[Any]]:
        """Return all feedback on a prediction, the latest first."""
        return await self._run(
            select(feedback)
            .where(feedback.c.request_id == request_id)
            .order_by(feedback.c.time.desc())
        )

    async def add_feedback(self, event: FeedbackEvent) -> None:
        """Insert feedback. Raises StorageSpent, StorageFull."""
        async with self._transaction() as connection:
            await connection.execute(insert(feedback).values(**event.model_dump()))
            await self._storage.settle(connection, event.subject)

    async def store_version(
        self, model: str, version: str, digest: str, run_id: str | None, metadata: ModelMetadata
    ) -> None:
        """Store the metadata of a version; receipts need it after the version is removed."""
        row = {
            "digest": digest,
            "model": model,
            "version": version,
            "run_id": run_id,
            "time": datetime.now(UTC),
        }
        statement = insert(model_versions).values(
            **row, metadata=metadata.model_dump(mode="json", exclude_none=True)
        )
        await self._run(statement.on_conflict_do_nothing())

    async def version(self, digest: str) -> ModelMetadata | None:
        """Return the stored metadata of a version; None when there is none."""
        rows = await self._run(
            select(model_versions.c.metadata).where(model_versions.c.digest == digest)
        )
        return ModelMetadata.model_validate(rows[0][0]) if rows else None
