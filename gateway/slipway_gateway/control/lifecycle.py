"""The seven steps of a model's lifecycle, each with its state, time and author."""

import asyncio
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field
from slipway_contract.model import ConditionType
from sqlalchemy import Row, Select, select

from slipway_gateway.http.schema import Schema
from slipway_gateway.inference.routing import Route
from slipway_gateway.postgresql.database import Database, DatabaseUnavailable
from slipway_gateway.postgresql.tables import (
    feedback,
    prediction_events,
    registered_versions,
    version_promotions,
)

SECONDS = 2.0
"""Time for the facts of the database; without them the description has unknown steps."""
RECENT = 1000
"""Predictions of a model among which the latest label is searched."""


class Step(StrEnum):
    """A step of the lifecycle, in this order."""

    TRAIN = "train"
    REGISTER = "register"
    PROMOTE = "promote"
    SERVE = "serve"
    PREDICT = "predict"
    LABEL = "label"
    MONITOR = "monitor"


class StepState(StrEnum):
    """State of a step."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    NONE = "none"
    UNKNOWN = "unknown"


class LifecycleStep(Schema):
    """A step of a model's lifecycle; the first three are those of the live version."""

    step: Step
    state: StepState = Field(
        description="`none`: it has not happened yet; `unknown`: no record is readable"
    )
    at: datetime | None = None
    by: str | None = Field(default=None, description="who did it; null for predictions and labels")
    message: str = ""
    href: str | None = Field(default=None, description="path of the details")


async def lifecycle(route: Route, database: Database) -> list[LifecycleStep]:
    """Return the steps of a model. Without the database those from it are unknown."""
    facts: dict[Step, Row[Any] | None] = {}
    with suppress(DatabaseUnavailable, TimeoutError):
        async with asyncio.timeout(SECONDS):
            for step, query in _queries(route).items():
                rows = await database.run(query)
                facts[step] = rows[0] if rows else None
    return [
        *_versions(route, facts),
        _serve(route),
        _last(Step.PREDICT, facts, "the latest prediction"),
        _last(Step.LABEL, facts, f"the latest label of the last {RECENT} predictions"),
        LifecycleStep(
            step=Step.MONITOR,
            state=StepState.UNKNOWN,
            message="the drift monitor writes its reports to MLflow",
        ),
    ]


def _queries(route: Route) -> dict[Step, Select[Any]]:
    name, version, event = (
        route.model.spec.registered_model,
        registered_versions.c,
        prediction_events.c,
    )
    number = int(route.live.version) if route.live and route.live.version.isdecimal() else 0
    promotion = version_promotions.c
    ours = event.model == route.model.name
    recent = (
        select(event.request_id).where(ours).order_by(event.time.desc()).limit(RECENT).subquery()
    )
    return {
        Step.TRAIN: select(version.created, version.created_by, version.run_id).where(
            version.registered_model == name, version.number == number
        ),
        Step.PROMOTE: select(promotion.time, promotion.subject, promotion.reason)
        .where(
            promotion.registered_model == name,
            promotion.number == number,
            promotion.result == "promoted",
        )
        .order_by(promotion.time.desc())
        .limit(1),
        Step.PREDICT: select(event.time).where(ours).order_by(event.time.desc()).limit(1),
        Step.LABEL: select(feedback.c.time)
        .join(recent, recent.c.request_id == feedback.c.request_id)
        .order_by(feedback.c.time.desc())
        .limit(1),
    }


def _versions(route: Route, facts: dict[Step, Row[Any] | None]) -> list[LifecycleStep]:
    """Return the steps of the live version: trained, registered, promoted."""
    if route.live is None:
        return [
            LifecycleStep(step=step, state=StepState.NONE, message="no version is live")
            for step in (Step.TRAIN, Step.REGISTER, Step.PROMOTE)
        ]
    live, path = route.live, f"/v1/models/{route.model.name}"
    row, promotion = facts.get(Step.TRAIN), facts.get(Step.PROMOTE)
    run = row.run_id if row else live.traffic.run_id
    known = {"at": row.created, "by": row.created_by} if row else {}
    registered = f"version {live.version}, {live.digest}"
    return [
        LifecycleStep(
            step=Step.TRAIN,
            state=StepState.DONE if run else StepState.UNKNOWN,
            message=f"MLflow run {run}" if run else "the version names no MLflow run",
            **known,
        ),
        LifecycleStep(
            step=Step.REGISTER,
            state=StepState.DONE,
            message=registered,
            href=f"{path}/versions/{live.version}",
            **known,
        ),
        LifecycleStep(
            step=Step.PROMOTE,
            state=StepState.DONE,
            at=promotion.time,
            by=promotion.subject,
            message=promotion.reason,
            href=f"{path}/promotions",
        )
        if promotion
        else LifecycleStep(
            step=Step.PROMOTE,
            state=StepState.NONE if Step.PROMOTE in facts else StepState.UNKNOWN,
            message=f"no promotion of version {live.version} is recorded",
        ),
    ]


def _serve(route: Route) -> LifecycleStep:
    status = route.model.status
    ready, progressing = (
        status.condition(ConditionType.READY),
        status.condition(ConditionType.PROGRESSING),
    )
    if ready is None:
        state = StepState.NONE
    elif ready.status == "True":
        state = StepState.DONE
    elif progressing and progressing.status == "True":
        state = StepState.RUNNING
    else:
        state = StepState.FAILED
    return LifecycleStep(
        step=Step.SERVE,
        state=state,
        at=ready.last_transition_time if ready else None,
        message=route.message,
        href=f"/v1/models/{route.model.name}/events",
    )


def _last(step: Step, facts: dict[Step, Row[Any] | None], message: str) -> LifecycleStep:
    if step not in facts:
        return LifecycleStep(step=step, state=StepState.UNKNOWN)
    row = facts[step]
    if row is None:
        return LifecycleStep(step=step, state=StepState.NONE)
    return LifecycleStep(step=step, state=StepState.DONE, at=row.time, message=message)
