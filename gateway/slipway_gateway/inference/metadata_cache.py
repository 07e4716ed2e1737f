"""A cache of model metadata, signature and provenance, in memory and in the database."""

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

MAX_ENTRIES = 1000


class ModelMetadataCache:
    """Model metadata by the artifact's digest, which identifies an artifact uniquely.

    The metadata of a runtime that does not prove the digest is that of its predictor alone: it is
    not stored, and no other model with the same artifact gets it.
    """

    def __init__(self, predictors: Predictors, events: EventLog, routes: Routes) -> None:
        self._predictors = predictors
        self._events = events
        self._routes = routes
        self._known: dict[str, ModelMetadata] = {}
        self._signatures: dict[str, Signature] = {}
        self._stored: set[str] = set()

    async def metadata(self, target: Target) -> ModelMetadata:
        """Return the V2 metadata from the predictor. Raises Unavailable."""
        key = _key(target)
        if (known := self._known.get(key)) is not None:
            return known
        try:
            metadata = ModelMetadata.model_validate(await self._predictors.metadata(target))
        except (OSError, ValidationError) as error:
            log.warning("no metadata of %s version %s: %s", target.model, target.version, error)
            raise Unavailable(
                f"version {target.version} of model {target.model} does not return its metadata"
            ) from error
        if (metadata.parameters or {}).get("digest", target.digest) != target.digest:
            raise Unavailable(
                f"version {target.version} of model {target.model} serves another artifact than "
                "its digest names"
            )
        if len(self._known) >= MAX_ENTRIES:
            self._known.clear()
            self._signatures.clear()
        self._known[key] = metadata
        return metadata

    async def signature(self, target: Target) -> Signature:
        """Return the model signature of a version. Raises Unavailable."""
        key = _key(target)
        if (known := self._signatures.get(key)) is not None:
            return known
        metadata = await self.metadata(target)
        try:
            signature = Signature.of_metadata(metadata)
        except ValidationError as error:
            log.warning(
                "invalid signature of %s version %s: %s", target.model, target.version, error
            )
            raise Unavailable(
                f"version {target.version} of model {target.model} has no signature for "
                "named features"
            ) from error
        self._signatures[key] = signature
        return signature

    async def provenance(self, digest: str) -> dict[str, Any]:
        """Return the metadata parameters of a current or former version; empty when unknown."""
        metadata = await self._found(digest)
        return (metadata.parameters or {}) if metadata else {}

    async def outputs(self, digest: str) -> list[Column]:
        """Return the output columns of a current or former version; empty when unknown."""
        metadata = await self._found(digest)
        try:
            return [Column.of_metadata(tensor) for tensor in metadata.outputs] if metadata else []
        except ValidationError:
            return []

    async def _found(self, digest: str) -> ModelMetadata | None:
        """Return the metadata from memory or else from the database."""
        return self._known.get(digest) or await self._events.version(digest)

    async def keep(self) -> None:
        """Store the metadata of each version that gets traffic until cancelled.

        A version is stored while it is served, because a former one can no longer be queried.
        """
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        self._routes.changed = wake
        while True:
            complete = await self._store_all()
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), timeout=None if complete else 5.0)
            except TimeoutError:
                continue

    async def _store_all(self) -> bool:
        """Store the versions of all traffic lists; return True when all of them are stored."""
        complete = True
        for route in self._routes.snapshot.values():
            for target in route.targets.values():
                if target.traffic.verified and target.digest not in self._stored:
                    complete &= await self._store(target)
        return complete

    async def _store(self, target: Target) -> bool:
        try:
            metadata = await self.metadata(target)
            await self._events.store_version(
                target.model, target.version, target.digest, target.traffic.run_id, metadata
            )
        except Unavailable:
            return False
        self._stored.add(target.digest)
        return True


def _key(target: Target) -> str:
    """Return the cache key of a version, which is its digest where its runtime proves it."""
    traffic = target.traffic
    return target.digest if traffic.verified else f"{target.digest} {traffic.service}"
