"""What each version says of itself: its signature and where it comes from. Kept in memory and in
the database.
"""

import asyncio
import logging
from typing import Any

from pydantic import ValidationError
from slipway_contract.signature import Column, Signature
from slipway_contract.v2 import ModelMetadata

from slipway_gateway.errors import Unavailable
from slipway_gateway.eventlog.eventlog import EventLog
from slipway_gateway.inference.predictors import Predictors
from slipway_gateway.inference.routing import Routes, Target

log = logging.getLogger(__name__)

MAX_KEPT = 1000


class ModelMetadataCache:
    """By digest, because a digest never means another artifact."""

    def __init__(self, predictors: Predictors, events: EventLog, routes: Routes) -> None:
        self._predictors = predictors
        self._events = events
        self._routes = routes
        self._known: dict[str, ModelMetadata] = {}
        self._signatures: dict[str, Signature] = {}
        self._stored: set[str] = set()

    async def metadata(self, target: Target) -> ModelMetadata:
        """V2 metadata as the predictor gives it. Raises Unavailable."""
        if (known := self._known.get(target.digest)) is not None:
            return known
        try:
            said = ModelMetadata.model_validate(await self._predictors.metadata(target))
        except (OSError, ValidationError) as error:
            log.warning("no metadata of %s version %s: %s", target.model, target.version, error)
            raise Unavailable(
                f"version {target.version} of model {target.model} does not say what it takes"
            ) from error
        if (said.parameters or {}).get("digest", target.digest) != target.digest:
            raise Unavailable(
                f"version {target.version} of model {target.model} is not the artifact that "
                "it should be"
            )
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
            self._signatures.clear()
        self._known[target.digest] = said
        return said

    async def signature(self, target: Target) -> Signature:
        """Raises Unavailable."""
        if (known := self._signatures.get(target.digest)) is not None:
            return known
        said = await self.metadata(target)
        try:
            signature = Signature.of_metadata(said)
        except ValidationError as error:
            log.warning(
                "the signature of %s version %s is not understood: %s",
                target.model,
                target.version,
                error,
            )
            raise Unavailable(
                f"version {target.version} of model {target.model} has no signature for "
                "named features"
            ) from error
        self._signatures[target.digest] = signature
        return signature

    async def provenance(self, digest: str) -> dict[str, Any]:
        """Where a version comes from, also when it is served no more; empty when it never said."""
        said = await self._found(digest)
        return (said.parameters or {}) if said else {}

    async def outputs(self, digest: str) -> list[Column]:
        """The columns that a version gives, also when it is served no more; empty when it never
        said.
        """
        said = await self._found(digest)
        try:
            return [Column.of_metadata(tensor) for tensor in said.outputs] if said else []
        except ValidationError:
            return []

    async def _found(self, digest: str) -> ModelMetadata | None:
        """Return what is in memory, else what is stored."""
        return self._known.get(digest) or await self._events.version(digest)

    async def keep(self) -> None:
        """Remember each version that gets traffic, while it can still be asked; for ever."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._routes.changed = wake
        while True:
            complete = await self._remember_all()
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), timeout=None if complete else 5.0)
            except TimeoutError:
                continue

    async def _remember_all(self) -> bool:
        """Whether every version of the traffic lists is stored."""
        complete = True
        for route in self._routes.snapshot.values():
            for target in route.targets.values():
                if target.digest not in self._stored:
                    complete &= await self._remember(target)
        return complete

    async def _remember(self, target: Target) -> bool:
        try:
            said = await self.metadata(target)
            await self._events.remember(
                target.model, target.version, target.digest, target.traffic.run_id, said
            )
        except Unavailable:
            return False
        self._stored.add(target.digest)
        return True
