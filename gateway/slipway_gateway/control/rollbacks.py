"""Rollbacks under ``/v1``: a change of the Model, which the controller serves without a Job."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from slipway_cluster.interface import MODEL, Cluster, Manifest
from slipway_cluster.interface import Conflict as Changed
from slipway_cluster.interface import NotFound as Missing
from slipway_contract.errors import InvalidInput
from slipway_contract.model import (
    MAX_REPLACED,
    ModelStatus,
    Reason,
    Rollback,
    RollbackState,
    RollbackStatus,
    TrafficRole,
    VersionNumber,
)

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission, Spending
from slipway_gateway.control.declarations import ATTEMPTS, called, changes_too_often
from slipway_gateway.errors import Conflict, NotFound
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes

WAIT_SECONDS = 1.2
"""Time in which the controller normally acts; the response then has the result."""


class RollbackRequest(RequestSchema):
    """The version that is to serve again, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "wrong scores since Monday"}]}
    )

    version: VersionNumber | None = Field(
        default=None, description="registry version; null: the former one"
    )
    reason: Reason = Field(description="reason for the audit record")


class RollbackAnswer(Schema):
    """The version that is to serve, and how far the controller has come."""

    model: str
    version: str
    instead_of: list[str] = Field(description="versions of the alias that it replaces")
    reason: str
    state: str = Field(
        description="`Requested`, `Pending`, `Serving`, `Ended`: `status.rollback` of the Model"
    )
    message: str


class Rollbacks:
    """The route of rollbacks; it writes ``spec.rollback``."""

    def __init__(self, cluster: Cluster, routes: Routes, audit: Audit) -> None:
        self._cluster = cluster
        self._routes = routes
        self._audit = audit

    def router(self) -> Router:
        router = Router(prefix="/v1/models/{model}", responses=PROBLEMS, tags=["promotions"])
        router.add(
            "POST /rollback",
            self.create_rollback,
            Permission("promote", SCIENTIFIC, Spending.TRAINING),
            status_code=202,
            summary="Serve a former version again, without a Job",
        )
        return router

    async def create_rollback(
        self, model: str, body: RollbackRequest, context: CurrentContext
    ) -> RollbackAnswer:
        self._routes.get(model)
        for _ in range(ATTEMPTS):
            old = await self._read(model)
            if ended := _ended(_status(old), body):
                return _described(model, ended, ended.state, ended.message)
            wanted = desired_rollback(old, body)
            if _declared(old) == wanted:
                return await self._answer(model, old, body)
            try:
                new = await self._write(context, model, old, wanted)
            except (Changed, Missing):
                continue
            try:
                return await self._answer(model, new, body)
            except InvalidInput:
                await self._restore(context, model, wanted, _in_effect(old))
                raise
        raise changes_too_often(model)

    async def _read(self, model: str) -> Manifest:
        try:
            found = await called(partial(self._cluster.get, MODEL, model))
        except Missing:
            raise NotFound(f"there is no model {model}") from None
        if "deletionTimestamp" in found["metadata"]:
            raise Conflict(f"model {model} is being deleted; create it again to serve a version")
        return found

    async def _write(
        self, context: RequestContext, model: str, old: Manifest, wanted: Rollback | None
    ) -> Manifest:
        spec = {key: value for key, value in old["spec"].items() if key != "rollback"}
        detail: dict[str, Any] = {"rollback": None}
        if wanted is not None:
            detail["rollback"] = spec["rollback"] = wanted.manifest()
        new = {key: value for key, value in old.items() if key != "status"} | {"spec": spec}
        async with self._audit.noted(context, "model.rollback", f"models/{model}", detail):
            return await called(partial(self._cluster.replace, new))

    async def _restore(
        self, context: RequestContext, model: str, failed: Rollback | None, former: Rollback | None
    ) -> None:
        """Declare the former rollback again, unless the field was changed meanwhile."""
        with suppress(NotFound, Conflict):  # the Model is gone: nothing is to be restored
            for _ in range(ATTEMPTS):
                found = await self._read(model)
                if _declared(found) != failed:
                    return
                try:
                    await self._write(context, model, found, former)
                except (Changed, Missing):
                    continue
                return

    async def _answer(self, model: str, written: Manifest, body: RollbackRequest) -> RollbackAnswer:
        """Return the result of the controller, if it acts in time. Raises InvalidInput."""
        declared, generation = _declared(written), written["metadata"]["generation"]
        deadline = time.monotonic() + WAIT_SECONDS
        while (status := self._routes.get(model).model.status).observed_generation < generation:
            if time.monotonic() > deadline:
                status = _status(written)
                break
            await asyncio.sleep(0.05)
        if declared is None:
            return RollbackAnswer(
                model=model,
                version=status.alias_version or "",
                instead_of=[],
                reason=body.reason,
                state=RollbackState.ENDED,
                message="the rollback was removed: the version of the alias serves",
            )
        known = status.rollback if declared.is_same(status.rollback) else None
        if known and known.state is RollbackState.FAILED:
            raise InvalidInput("version", known.message)
        if known is None:
            message = "the controller acts next; read the Model's status"
            return _described(model, declared, "Requested", message)
        return _described(model, declared, known.state, known.message)


def desired_rollback(manifest: Manifest, body: RollbackRequest) -> Rollback | None:
    """Return the rollback that serves the requested version; None to end the one in effect.

    The version of a rollback whose Job may still move the alias is replaced, too. Raises Conflict,
    InvalidInput.
    """
    status = _status(manifest)
    alias, known = status.alias_version, status.rollback
    if alias is None:
        raise Conflict(
            "the controller has not read the alias of the model; wait until the Model has "
            "status.aliasVersion"
        )
    in_effect = _in_effect(manifest)
    failed = (
        in_effect and known and in_effect.is_same(known) and known.state is RollbackState.FAILED
    )
    current = None if failed else in_effect
    version = body.version or (current.version if current else _former(status, alias))
    if version != alias:
        if current and (current.version, current.reason) == (version, body.reason):
            return current
        replaced = [alias, *([current.version, *current.instead_of] if current else [])]
        return Rollback(
            version=version,
            instead_of=[v for v in dict.fromkeys(replaced) if v != version][:MAX_REPLACED],
            reason=body.reason,
            requested_at=datetime.now(UTC),
        )
    if in_effect:
        return None
    raise InvalidInput("version", f"the alias points to version {alias}; name another one")


def _former(status: ModelStatus, alias: str) -> str:
    """Return the version that served before that of the alias. Raises InvalidInput.

    After a rollback it is not one that the rollback replaced.
    """
    live = next((t.version for t in status.traffic if t.role is TrafficRole.LIVE), alias)
    if live != alias:
        return live
    last = status.rollback
    replaced = last.instead_of if last and last.is_final and last.version == alias else []
    kept = [
        t for t in status.traffic if t.role is TrafficRole.PREVIOUS and t.version not in replaced
    ]
    if not kept:
        raise InvalidInput("version", "no former version is kept; name a registry version")
    return max(kept, key=lambda target: target.since).version


def _ended(status: ModelStatus, body: RollbackRequest) -> RollbackStatus | None:
    """Return the rollback that a repeated request has made, when it has ended as requested."""
    last = status.rollback
    if last is None or not last.is_final or last.version != status.alias_version:
        return None
    is_repeated = body.version in (None, last.version) and body.reason == last.reason
    return last if is_repeated else None


def _described(model: str, rollback: Rollback, state: str, message: str) -> RollbackAnswer:
    return RollbackAnswer(
        model=model,
        version=rollback.version,
        instead_of=rollback.instead_of,
        reason=rollback.reason,
        state=state,
        message=message,
    )


def _in_effect(manifest: Manifest) -> Rollback | None:
    """Return the rollback that decides the traffic; a failed one leaves it as it is."""
    declared, status = _declared(manifest), _status(manifest)
    return declared if declared and declared.in_effect(status, status.alias_version) else None


def _declared(manifest: Manifest) -> Rollback | None:
    """Return the rollback of a Model; an invalid one has no effect."""
    try:
        return Rollback.model_validate(manifest["spec"]["rollback"])
    except (KeyError, ValidationError):
        return None


def _status(manifest: Manifest) -> ModelStatus:
    return ModelStatus.model_validate(manifest.get("status", {}))
