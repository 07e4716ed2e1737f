"""Audit entries of aliases that were moved without a promotion, which the controller observes."""

import asyncio
import hashlib
from contextlib import suppress

from slipway_contract.model import RoutedModel
from sqlalchemy import insert, select, text

from slipway_gateway.inference.routing import Routes
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import audit

SUBJECT = ":unknown"
"""MLflow does not publish who moved an alias."""
ACTION = "alias.move"
SECONDS = 2.0
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('alias moves', 0))")


class AliasMoves:
    """A periodic task that records each move once, whatever the number of replicas and restarts."""

    def __init__(self, database: Database, routes: Routes) -> None:
        self._database = database
        self._routes = routes
        self._recorded: set[str] = set()

    async def keep(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # the next look makes up for it
                await self.once()
            await asyncio.sleep(SECONDS)

    async def once(self) -> None:
        """Record the moves that the Models have now. Raises DatabaseUnavailable."""
        models = [route.model for route in self._routes.snapshot.values()]
        moved = {_key(model): model for model in models if model.status.unpromoted}
        self._recorded &= moved.keys()
        for key in moved.keys() - self._recorded:
            await self._record(key, moved[key])
            self._recorded.add(key)

    async def _record(self, key: str, model: RoutedModel) -> None:
        move, spec = model.status.unpromoted, model.spec
        entry = {
            "subject": SUBJECT,
            "request_id": key,
            "action": ACTION,
            "thing": f"registry/{spec.registered_model}/aliases/{spec.alias}",
            "detail": {
                "to": move and move.version,
                "model": model.name,
                "gate": "none: the alias was moved in MLflow, and the user is unknown",
            },
        }
        known = select(audit.c.number).where(audit.c.request_id == key, audit.c.action == ACTION)
        async with self._database.transaction() as connection:
            await connection.execute(LOCK)
            if (await connection.execute(known.limit(1))).first() is None:
                await connection.execute(insert(audit).values(entry))


def _key(model: RoutedModel) -> str:
    """Return the same id of a move in each process."""
    move = model.status.unpromoted
    source = f"{model.name}\0{model.spec.alias}\0{move and (move.version, move.since.isoformat())}"
    return f"move-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
