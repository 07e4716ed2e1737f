"""Models under ``/v1``: the granted models with their signatures and cards."""

import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field, ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.model import TrafficRole
from slipway_contract.registry import CARD
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceRequest

from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, Permission
from slipway_gateway.control.lifecycle import LifecycleStep, lifecycle
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.http.conditional import NOT_MODIFIED, IfNoneMatch, conditional
from slipway_gateway.http.schema import Schema
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Route, Routes, Target
from slipway_gateway.postgresql.database import Database
from slipway_gateway.preprocessing.cells import cells

_Version = Annotated[
    str | None, Query(description="a version that is served; default: the live version")
]
_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}
}


class ModelCondition(Schema):
    """A condition of the Model: Ready, Progressing or Degraded."""

    type: str
    status: str = Field(description="True, False or Unknown")
    reason: str
    message: str
    last_transition_time: datetime


class ModelTraffic(Schema):
    """A version that has predictors."""

    version: str
    role: str = Field(description="live, canary, previous or draining")
    percent: int
    digest: str
    since: datetime = Field(description="when this role and share began")


class ModelRollout(Schema):
    """The change to a new version, in progress."""

    candidate: str = Field(description="version that takes over")
    live: str | None = Field(description="version with the rest of the traffic")
    percent: int = Field(description="share of the candidate")
    since: datetime = Field(description="when this share began")


EXAMPLE_VALUES = 1000
"""Maximum number of values of an example in a description."""


class ModelAnswer(Schema):
    """A model and its state."""

    name: str
    description: str | None = Field(description="purpose of the model; null when it has none")
    owner: str | None = Field(description="person or team that is responsible for the model")
    ready: bool
    version: str | None = Field(description="version with the largest share of the traffic")
    digest: str | None = Field(description="sha256:… of that version's artifact")
    verified: bool | None = Field(
        description="false: its runtime does not prove that it serves this digest"
    )
    message: str = Field(description="message of the Ready condition")
    signature: Signature | None = Field(
        description="inputs and outputs; null while the version is unavailable"
    )
    registered_model: str = Field(description="name in the MLflow registry")
    alias: str = Field(description="registry alias of the version that is to be live")
    alias_version: str | None = Field(description="version of the alias, as last read")
    conditions: list[ModelCondition]
    traffic: list[ModelTraffic]
    rollout: ModelRollout | None
    example: list[dict[str, Any]] | None = Field(
        default=None,
        description=(
            "the live version's own input example, as `instances`; null in a list, and for more "
            f"than {EXAMPLE_VALUES} values"
        ),
    )
    lifecycle: list[LifecycleStep] | None = Field(default=None, description="null in a list")


class ModelList(Schema):
    """The models that are granted to the caller, sorted by name."""

    models: list[ModelAnswer]


class Models:
    """The routes of models under ``/v1``."""

    def __init__(
        self,
        routes: Routes,
        grants: GrantWatch,
        metadata_cache: ModelMetadataCache,
        database: Database,
    ) -> None:
        self._routes = routes
        self._grants = grants
        self._metadata_cache = metadata_cache
        self._database = database

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS)
        describe = Permission("describe", ALL)
        router.add(
            "GET /models",
            self.list_models,
            describe,
            tags=["models"],
            summary="List the models granted to you",
            response_model=ModelList,
            responses=NOT_MODIFIED,
        )
        router.add(
            "GET /models/{model}",
            self.get_model,
            describe,
            tags=["models"],
            summary="Return a model, its signature and its lifecycle",
            response_model=ModelAnswer,
            responses=NOT_MODIFIED,
        )
        router.add(
            "GET /models/{model}/card",
            self.get_model_card,
            describe,
            tags=["models"],
            summary="Return the model card of a version",
            response_class=Response,
            responses=_MARKDOWN,
        )
        return router

    async def list_models(
        self, context: CurrentContext, if_none_match: IfNoneMatch = None
    ) -> Response:
        granted, now = self._grants.snapshot, time.time()
        routes = [
            route
            for name, route in sorted(self._routes.snapshot.items())
            if granted.find(context.caller, name, now)
        ]
        models = [ModelAnswer(**await self._describe(route)) for route in routes]
        return conditional(ModelList(models=models), if_none_match)

    async def get_model(self, model: str, if_none_match: IfNoneMatch = None) -> Response:
        route = self._routes.get(model)
        described = await self._describe(route)
        signature: Signature | None = described["signature"]
        example = await self._example(route.live, signature) if route.live and signature else None
        steps = await lifecycle(route, self._database)
        detail = ModelAnswer(**described, example=example, lifecycle=steps)
        return conditional(detail, if_none_match)

    async def get_model_card(self, model: str, version: _Version = None) -> Response:
        route = self._routes.get(model)
        target = route.version(version) if version else route.live or route.pick()
        card = ((await self._metadata_cache.metadata(target)).parameters or {}).get(CARD)
        if not isinstance(card, str):
            raise NotFound(f"version {target.version} of model {model} has no model card")
        headers = {name.decode(): value.decode() for name, value in target.headers}
        headers["x-content-type-options"] = "nosniff"
        return Response(card, media_type="text/markdown", headers=headers)

    async def _describe(self, route: Route) -> dict[str, Any]:
        """Return the fields of ``ModelAnswer``."""
        live, signature = route.live, None
        if live:
            try:
                signature = await self._metadata_cache.signature(live)
            except Unavailable:
                signature = None
        spec, status = route.model.spec, route.model.status
        return {
            "name": route.model.name,
            "description": spec.description,
            "owner": spec.owner,
            "ready": route.ready,
            "version": live.version if live else None,
            "digest": live.digest if live else None,
            "verified": live.traffic.verified if live else None,
            "message": route.message,
            "signature": signature,
            "registered_model": spec.registered_model,
            "alias": spec.alias,
            "alias_version": status.alias_version,
            "conditions": [ModelCondition(**each.model_dump()) for each in status.conditions],
            "traffic": [
                ModelTraffic.model_validate(each, from_attributes=True) for each in status.traffic
            ],
            "rollout": _rollout(route),
        }

    async def _example(self, live: Target, signature: Signature) -> list[dict[str, Any]] | None:
        """Return the example in the metadata of a version as named rows."""
        try:
            metadata = await self._metadata_cache.metadata(live)
            given = InferenceRequest.model_validate((metadata.parameters or {}).get("example"))
        except (Unavailable, ValidationError, InvalidInput):
            return None
        rows = given.inputs[0].shape[0] if given.inputs and given.inputs[0].shape else 0
        if not 0 < cells(signature, rows) <= EXAMPLE_VALUES:
            return None
        return Signature(inputs=signature.inputs, outputs=signature.inputs).rows(given.inputs)


def _rollout(route: Route) -> ModelRollout | None:
    """Return the rollout in the Model's status."""
    canary = next(
        (t for t in route.model.status.traffic if t.role is TrafficRole.CANARY and t.percent), None
    )
    if canary is None:
        return None
    live = next((t for t in route.model.status.traffic if t.role is TrafficRole.LIVE), None)
    return ModelRollout(
        candidate=canary.version,
        live=live.version if live else None,
        percent=canary.percent,
        since=canary.since,
    )
