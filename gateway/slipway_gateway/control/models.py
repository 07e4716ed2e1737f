"""Models under ``/v1``: the granted models with their signatures and cards, and the caller."""

import time
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field
from slipway_contract.registry import CARD
from slipway_contract.signature import Signature

from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import ALL, SIGNED_IN, Permission
from slipway_gateway.errors import NotFound, Unavailable
from slipway_gateway.http.schema import Schema
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Route, Routes

_Version = Annotated[
    str | None, Query(description="a version that is served; default: the live version")
]
_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}
}


class Me(Schema):
    """The caller, from the token."""

    subject: str = Field(
        description=(
            "name of the caller in receipts, usage, grants and the audit: `user:ada` or "
            "`client:nightly`"
        )
    )
    account: str = Field(description="`sub` of the token")
    name: str | None
    groups: list[str]
    roles: list[str]
    expires: datetime


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


class ModelList(Schema):
    """The models that are granted to the caller, sorted by name."""

    models: list[ModelAnswer]


class Models:
    """The routes of models under ``/v1``, and of the caller."""

    def __init__(
        self, routes: Routes, grants: GrantWatch, metadata_cache: ModelMetadataCache
    ) -> None:
        self._routes = routes
        self._grants = grants
        self._metadata_cache = metadata_cache

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS)
        router.add(
            "GET /me",
            self.get_me,
            Permission("me", SIGNED_IN),
            tags=["account"],
            summary="Return your account and roles",
        )
        describe = Permission("describe", ALL)
        router.add(
            "GET /models",
            self.list_models,
            describe,
            tags=["models"],
            summary="List the models granted to you",
        )
        router.add(
            "GET /models/{model}",
            self.get_model,
            describe,
            tags=["models"],
            summary="Return a model and its signature",
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

    async def get_me(self, context: CurrentContext) -> Me:
        caller = context.caller
        expires = datetime.fromtimestamp(caller.expires, UTC)
        return Me(
            subject=caller.subject,
            account=caller.account,
            name=caller.name,
            groups=list(caller.groups),
            roles=sorted(caller.roles),
            expires=expires,
        )

    async def list_models(self, context: CurrentContext) -> ModelList:
        granted, now = self._grants.snapshot, time.time()
        routes = [
            route
            for name, route in sorted(self._routes.snapshot.items())
            if granted.find(context.caller, name, now)
        ]
        return ModelList(models=[await self._describe(route) for route in routes])

    async def get_model(self, model: str) -> ModelAnswer:
        return await self._describe(self._routes.get(model))

    async def get_model_card(self, model: str, version: _Version = None) -> Response:
        route = self._routes.get(model)
        target = route.version(version) if version else route.live or route.pick()
        card = ((await self._metadata_cache.metadata(target)).parameters or {}).get(CARD)
        if not isinstance(card, str):
            raise NotFound(f"version {target.version} of model {model} has no model card")
        headers = {name.decode(): value.decode() for name, value in target.headers}
        headers["x-content-type-options"] = "nosniff"
        return Response(card, media_type="text/markdown", headers=headers)

    async def _describe(self, route: Route) -> ModelAnswer:
        live, signature = route.live, None
        if live:
            try:
                signature = await self._metadata_cache.signature(live)
            except Unavailable:
                signature = None
        return ModelAnswer(
            name=route.model.name,
            description=route.model.spec.description,
            owner=route.model.spec.owner,
            ready=route.ready,
            version=live.version if live else None,
            digest=live.digest if live else None,
            verified=live.traffic.verified if live else None,
            message=route.message,
            signature=signature,
        )
