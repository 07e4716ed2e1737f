"""Models under ``/v1``: which there are for a caller, and predictions of them from named features
or images.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.registry import CARD
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceResponse

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.control.route import PROBLEMS, CurrentCall
from slipway_gateway.control.schemas import (
    FeaturesAnswer,
    Me,
    ModelAnswer,
    ModelList,
    PredictionAnswer,
    PredictionRequest,
)
from slipway_gateway.errors import (
    NotFound,
    Refused,
    StorageFull,
    StorageSpent,
    Unavailable,
    UpstreamAborted,
)
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.http.body import Body
from slipway_gateway.http.text import dumps
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.prediction import Predictions, error_text
from slipway_gateway.inference.routing import Route, Routes, Target
from slipway_gateway.postgresql.database import DatabaseUnavailable
from slipway_gateway.preprocessing import form
from slipway_gateway.preprocessing.cells import cells, check_cells
from slipway_gateway.preprocessing.image_decoder import ImageDecoder
from slipway_gateway.preprocessing.lookup import Features, FeatureSet
from slipway_gateway.preprocessing.ranking import add_top, ranked
from slipway_gateway.preprocessing.trimmed import trimmed
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

CELL_BYTES = 16
"""Bytes of JSON that one value takes in a request and in its answer, roughly."""

Top = Annotated[
    int | None, Query(ge=1, le=1000, description="give each row its likeliest classes, so many")
]
_FORM = {
    "type": "object",
    "description": (
        "files in the field of the input that takes images; other inputs by their names"
    ),
}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": PredictionRequest.model_json_schema(by_alias=True)},
            form.KIND: {"schema": _FORM},
        },
    }
}

_Version = Annotated[
    str | None, Query(description="a version that is served; the live one when not given")
]
_MARKDOWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}
}


class Models:
    """The routes and what they work with."""

    def __init__(
        self,
        routes: Routes,
        grants: GrantWatch,
        predictions: Predictions,
        metadata_cache: ModelMetadataCache,
        images: ImageDecoder,
        image_store: ImageStore,
        features: Features,
        *,
        value_limit: int,
    ) -> None:
        self._routes = routes
        self._grants = grants
        self._predictions = predictions
        self._metadata_cache = metadata_cache
        self._images = images
        self._image_store = image_store
        self._features = features
        self._value_limit = value_limit

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/v1", responses=PROBLEMS)
        router.get("/me", summary="Who am I")(self.me)
        router.get("/models", summary="The models that are granted to me")(self.models)
        router.get("/models/{model}", summary="One model")(self.model)
        router.get(
            "/models/{model}/card",
            summary="Its model card",
            response_class=Response,
            responses=_MARKDOWN,
        )(self.card)
        predict = router.post(
            "/models/{model}/predictions",
            summary="Predict from named features or images, or from what is looked up",
            openapi_extra=BODY,
            response_model=PredictionAnswer,
        )
        predict(self.predict)
        return router

    async def me(self, context: CurrentCall) -> Me:
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

    async def models(self, context: CurrentCall) -> ModelList:
        granted, now = self._grants.snapshot, time.time()
        routes = [
            route
            for name, route in sorted(self._routes.snapshot.items())
            if granted.find(context.caller, name, now)
        ]
        return ModelList(models=[await self._describe(route) for route in routes])

    async def model(self, model: str) -> ModelAnswer:
        return await self._describe(self._routes.get(model))

    async def card(self, model: str, version: _Version = None) -> Response:
        route = self._routes.get(model)
        target = route.version(version) if version else route.live or route.pick()
        card = ((await self._metadata_cache.metadata(target)).parameters or {}).get(CARD)
        if not isinstance(card, str):
            raise NotFound(f"version {target.version} of model {model} has no model card")
        told = {name.decode(): value.decode() for name, value in target.headers}
        return Response(
            card, media_type="text/markdown", headers={"x-content-type-options": "nosniff", **told}
        )

    async def _describe(self, route: Route) -> ModelAnswer:
        live, signature = route.live, None
        if live:
            try:
                signature = await self._metadata_cache.signature(live)
            except Unavailable:
                signature = None
        return ModelAnswer(
            name=route.model.name,
            ready=route.ready,
            version=live.version if live else None,
            digest=live.digest if live else None,
            message=route.message,
            signature=signature,
        )

    async def predict(
        self, model: str, request: Request, context: CurrentCall, top: Top = None
    ) -> Response:
        target = self._routes.pick(model)
        signature = await self._metadata_cache.signature(target)
        if top and not ranked(signature):
            raise InvalidInput(
                "top", "this model gives no probabilities or scores of classes; leave it out"
            )
        instances, files = await self._instances(request, signature)
        check_cells(signature, len(instances), self._value_limit)
        await self._image_store.check(context.caller.subject, files)
        size = cells(signature, len(instances)) * CELL_BYTES
        rows, about = await self._features.rows(signature, instances)
        asked = _asked_for(about, signature, instances) if about else None
        body = Body(await run(size, _written, signature, rows, context.request_id, asked))
        answer = await self._predictions.ask(context, target, body)
        try:
            content = await answer.whole()
        except UpstreamAborted as error:
            raise Unavailable("the model broke off its answer", retry_after=2) from error
        if answer.status != 200:
            raise Refused(answer.status, error_text(content), target.headers)
        said = PredictionAnswer.model_construct(
            predictions=[],
            request_id=context.request_id,
            model=model,
            version=target.version,
            digest=target.digest,
        )
        if about:
            said.features = _freshness(about)
        text = await run(max(size, len(content)), _said, said, content, target, signature, top)
        if files:
            await self._keep(context, files)
        headers = {name.decode(): value.decode() for name, value in target.headers}
        return Response(text, media_type="application/json", headers=headers)

    async def _instances(
        self, request: Request, signature: Signature
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Rows, and the files that they were made from."""
        if form.is_form(request):
            rows, files = await form.rows(request, signature, self._images, self._value_limit)
            return rows, await asyncio.to_thread(lambda: list(map(trimmed, files)))
        content = await request.body()
        read = await run(len(content), PredictionRequest.of_body, content, self._value_limit)
        return read.instances, []

    async def _keep(self, context: RequestContext, files: list[bytes]) -> None:
        try:
            await self._image_store.add(context.request_id, context.caller.subject, files)
        except (
            DatabaseUnavailable,
            StorageSpent,
            StorageFull,
        ) as error:  # the prediction is made and logged; this does not undo it
            cause = error.cause if isinstance(error, DatabaseUnavailable) else error
            log.warning("the images of request %s are not kept: %s", context.request_id, cause)


def _written(
    signature: Signature, rows: list[dict[str, Any]], request_id: str, asked: dict[str, str] | None
) -> bytes:
    """The V2 request of the rows, with ``asked`` as its parameters. Raises InvalidInput."""
    inference = signature.request(rows, request_id)
    if asked:
        inference = inference.model_copy(update={"parameters": asked})
    return dumps(inference.model_dump(exclude_none=True))


def _said(
    said: PredictionAnswer, content: bytes, target: Target, signature: Signature, top: int | None
) -> bytes:
    """``said`` as JSON, with the predictions of the predictor's answer. Raises Unavailable."""
    said.predictions = signature.rows(_read(content, target).outputs)
    if top:
        add_top(said.predictions, signature, top)
    return said.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _asked_for(
    about: FeatureSet, signature: Signature, instances: list[dict[str, Any]]
) -> dict[str, str]:
    """Of a request whose inputs were looked up, for its receipt: what was asked for, and what was
    known then.
    """
    lookup = signature.lookup
    names = (*lookup.keys, lookup.date) if lookup else ()
    asked = [[row.get(name) for name in names] for row in instances]
    return {
        "features": about.name,
        "newest": about.newest.isoformat(),
        "asked": orjson.dumps(asked).decode(),
    }


def _freshness(about: FeatureSet) -> FeaturesAnswer:
    return FeaturesAnswer(
        name=about.name,
        newest=about.newest,
        age_seconds=about.age(),
        computed=about.computed,
        synthetic=about.synthetic,
    )


def _read(content: bytes, target: Target) -> InferenceResponse:
    try:
        return InferenceResponse.model_validate_json(content)
    except ValidationError as error:
        raise Unavailable(
            f"version {target.version} of model {target.model} gave an answer that is not V2"
        ) from error
