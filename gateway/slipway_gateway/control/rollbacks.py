"""Rollbacks under ``/v1``: a change of the Model, which the controller serves without a Job."""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import ConfigDict, Field, ValidationError
from slipway_cluster.interface import JOB, MODEL, Cluster, Manifest
from slipway_cluster.interface import Conflict as Changed
from slipway_cluster.interface import NotFound as Missing
from slipway_contract.errors import InvalidInput
from slipway_contract.labels import CONTROLLER, PURPOSE
from slipway_contract.labels import MODEL as MODEL_LABEL
from slipway_contract.model import (
    MAX_REPLACED,
    ModelStatus,
    Rollback,
    RollbackState,
    TrafficRole,
)

from slipway_gateway.access.audit import Audit
from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import SCIENTIFIC, Permission, Spending
from slipway_gateway.control.declarations import ATTEMPTS, called, changes_too_often
from slipway_gateway.errors import Conflict, NotFound
from slipway_gateway.http.schema import RequestSchema, Schema
from slipway_gateway.inference.routing import Routes
from slipway_gateway.jobs.submission import is_over, submitted_by

WAIT_SECONDS = 1.2
"""Time in which the controller normally acts; the response then has the result."""


class RollbackRequest(RequestSchema):
    """The version that is to serve again, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"reason": "wrong scores since Monday"}]}
    )

    version: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]{0,8}$",
        description="registry version; null: the former one",
    )
    reason: str = Field(
        min_length=1,
        max_length=500,
        pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$",
        description="reason for the audit record",
    )


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
            wanted = desired_rollback(old, body)
            if _declared(old) != wanted:
                try:
                    old = await self._write(context, model, old, wanted)
                except (Changed, Missing):  # a deleted Model is reported by the next read
                    continue
            return await self._answer(model, old, body)
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
        if wanted is None:
            await called(partial(self._cancel, model))
        else:
            detail["rollback"] = spec["rollback"] = wanted.manifest()
        new = {key: value for key, value in old.items() if key != "status"} | {"spec": spec}
        async with self._audit.noted(context, "model.rollback", f"models/{model}", detail):
            return await called(partial(self._cluster.replace, new))

    def _cancel(self, model: str) -> None:
        """Delete the Jobs that are to move the alias for a rollback that ends."""
        for job in self._cluster.list(JOB, {PURPOSE: "promotion", MODEL_LABEL: model}):
            if submitted_by(job) == CONTROLLER and not is_over(job):
                self._cluster.delete(JOB, job["metadata"]["name"])

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
        return RollbackAnswer(
            model=model,
            version=declared.version,
            instead_of=declared.instead_of,
            reason=declared.reason,
            state=known.state if known else "Requested",
            message=known.message if known else "the controller acts next; read the Model's status",
        )


def desired_rollback(manifest: Manifest, body: RollbackRequest) -> Rollback | None:
    """Return the rollback that serves the requested version; None to end the one in effect.

    The version of a rollback whose Job may still move the alias is replaced, too. Raises Conflict,
    InvalidInput.
    """
    status, declared = _status(manifest), _declared(manifest)
    alias = status.alias_version
    if alias is None:
        raise Conflict(
            "the controller has not read the alias of the model; wait until the Model has "
            "status.aliasVersion"
        )
    current = declared if declared and declared.in_effect(status, alias) else None
    version = body.version or (current.version if current else _former(status, alias))
    is_repeated = declared and (declared.version, declared.reason) == (version, body.reason)
    if version != alias:
        if current and is_repeated:
            return current
        replaced = [alias, *([current.version, *current.instead_of] if current else [])]
        return Rollback(
            version=version,
            instead_of=[v for v in dict.fromkeys(replaced) if v != version][:MAX_REPLACED],
            reason=body.reason,
            requested_at=datetime.now(UTC),
        )
    if current:
        return None
    if is_repeated:
        return declared
    raise InvalidInput("version", f"the alias points to version {alias}; name another one")


def _former(status: ModelStatus, alias: str) -> str:
    """Return the version that served before that of the alias. Raises InvalidInput."""
    live = next((t.version for t in status.traffic if t.role is TrafficRole.LIVE), alias)
    if live != alias:
        return live
    kept = [t for t in status.traffic if t.role is TrafficRole.PREVIOUS]
    if not kept:
        raise InvalidInput("version", "no former version is kept; name a registry version")
    return max(kept, key=lambda target: target.since).version


def _declared(manifest: Manifest) -> Rollback | None:
    """Return the rollback of a Model; an invalid one has no effect."""
    try:
        return Rollback.model_validate(manifest["spec"]["rollback"])
    except (KeyError, ValidationError):
        return None


def _status(manifest: Manifest) -> ModelStatus:
    return ModelStatus.model_validate(manifest.get("status", {}))
