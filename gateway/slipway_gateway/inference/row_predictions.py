"""``POST /v1/models/{model}/predictions``: predictions from named features, images or keys."""

import asyncio
import logging
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response
from pydantic import ValidationError
from slipway_contract.errors import InvalidInput
from slipway_contract.signature import Signature
from slipway_contract.v2 import InferenceResponse

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.route import PROBLEMS, CurrentContext, Router
from slipway_gateway.access.rules import PREDICT
from slipway_gateway.errors import Refused, StorageFull, StorageSpent, Unavailable, UpstreamAborted
from slipway_gateway.eventlog.images import ImageStore
from slipway_gateway.http.body import Body
from slipway_gateway.http.text import dumps
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.openapi import ASYNC
from slipway_gateway.inference.prediction import Predictions, error_text
from slipway_gateway.inference.routing import Routes, Target
from slipway_gateway.inference.schemas import FeaturesAnswer, PredictionAnswer, PredictionRequest
from slipway_gateway.postgresql.database import DatabaseUnavailable
from slipway_gateway.preprocessing import form
from slipway_gateway.preprocessing.cells import cells, check_cells
from slipway_gateway.preprocessing.image_decoder import ImageDecoder
from slipway_gateway.preprocessing.lookup import Features, StoredSet
from slipway_gateway.preprocessing.ranking import add_top, ranked
from slipway_gateway.preprocessing.trimmed import trimmed
from slipway_gateway.threads import run

log = logging.getLogger(__name__)

CELL_BYTES = 16
"""Approximate size in bytes of one value as JSON, in a request and in its response."""

Top = Annotated[
    int | None, Query(ge=1, le=1000, description="number of most probable classes in each row")
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


class RowPredictions:
    """The route of predictions from rows, which it converts to V2 by the model's signature."""

    def __init__(
        self,
        routes: Routes,
        predictions: Predictions,
        metadata_cache: ModelMetadataCache,
        images: ImageDecoder,
        image_store: ImageStore,
        features: Features,
        *,
        value_limit: int,
    ) -> None:
        self._routes = routes
        self._predictions = predictions
        self._metadata_cache = metadata_cache
        self._images = images
        self._image_store = image_store
        self._features = features
        self._value_limit = value_limit

    def router(self) -> Router:
        router = Router(prefix="/v1", responses=PROBLEMS, tags=["predictions"])
        router.add(
            "POST /models/{model}/predictions",
            self.predict,
            PREDICT,
            summary="Predict from named features, images or the keys of stored features",
            openapi_extra={**BODY, **ASYNC},
            response_model=PredictionAnswer,
        )
        return router

    async def predict(
        self, model: str, request: Request, context: CurrentContext, top: Top = None
    ) -> Response:
        target = self._routes.pick(model)
        signature = await self._metadata_cache.signature(target)
        if top and not ranked(signature):
            raise InvalidInput(
                "top", "this model returns no probabilities or scores of classes; omit top"
            )
        instances, files = await self._instances(request, signature)
        check_cells(signature, len(instances), self._value_limit)
        await self._image_store.check(context.caller.subject, files)
        size = cells(signature, len(instances)) * CELL_BYTES
        rows, features = await self._features.rows(model, signature, instances)
        parameters = _lookup_parameters(features, signature, instances) if features else None
        body = Body(await run(size, _v2_request, signature, rows, context.request_id, parameters))
        answer = await self._predictions.ask(context, target, body)
        try:
            content = await answer.whole()
        except UpstreamAborted as error:
            raise Unavailable("the predictor ended its response early", retry_after=2) from error
        if answer.status != 200:
            raise Refused(answer.status, error_text(content), target.headers)
        response = PredictionAnswer.model_construct(
            predictions=[],
            request_id=context.request_id,
            model=model,
            version=target.version,
            digest=target.digest,
        )
        if features:
            response.features = _freshness(features)
        text = await run(
            max(size, len(content)), _serialize, response, content, target, signature, top
        )
        if files:
            await self._keep(context, files)
        headers = {name.decode(): value.decode() for name, value in target.headers}
        return Response(text, media_type="application/json", headers=headers)

    async def _instances(
        self, request: Request, signature: Signature
    ) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Return the rows of a request and the image files that they were decoded from."""
        if form.is_form(request):
            rows, files = await form.rows(request, signature, self._images, self._value_limit)
            return rows, await asyncio.to_thread(lambda: list(map(trimmed, files)))
        content = await request.body()
        read = await run(len(content), PredictionRequest.of_body, content, self._value_limit)
        return read.instances, []

    async def _keep(self, context: RequestContext, files: list[bytes]) -> None:
        try:
            await self._image_store.add(context.request_id, context.caller.subject, files)
        # The prediction is complete and logged; its response does not depend on the images.
        except (DatabaseUnavailable, StorageSpent, StorageFull) as error:
            cause = error.cause if isinstance(error, DatabaseUnavailable) else error
            log.warning("the images of request %s are not stored: %s", context.request_id, cause)


def _v2_request(
    signature: Signature,
    rows: list[dict[str, Any]],
    request_id: str,
    parameters: dict[str, str] | None,
) -> bytes:
    """Return the V2 request of the rows as JSON. Raises InvalidInput."""
    inference = signature.request(rows, request_id)
    if parameters:
        inference = inference.model_copy(update={"parameters": parameters})
    return dumps(inference.model_dump(exclude_none=True))


def _serialize(
    response: PredictionAnswer,
    content: bytes,
    target: Target,
    signature: Signature,
    top: int | None,
) -> bytes:
    """Return ``response`` as JSON, with the rows of the V2 response ``content``.

    Raises Unavailable.
    """
    response.predictions = signature.rows(_parse(content, target).outputs)
    if top:
        add_top(response.predictions, signature, top)
    return response.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _lookup_parameters(
    features: StoredSet, signature: Signature, instances: list[dict[str, Any]]
) -> dict[str, str]:
    """Return the V2 parameters that record a feature lookup in the receipt.

    They contain the feature set, the date of its newest fact, and the requested keys and dates.
    """
    lookup = signature.lookup
    names = lookup.names if lookup else ()
    keys = [[row.get(name) for name in names] for row in instances]
    return {
        "features": features.declared.name,
        "newest": features.declared.newest.isoformat(),
        "asked": orjson.dumps(keys).decode(),
    }


def _freshness(features: StoredSet) -> FeaturesAnswer:
    return FeaturesAnswer(
        name=features.declared.name,
        newest=features.declared.newest,
        age_seconds=features.age(),
        computed=features.computed,
        synthetic=features.declared.synthetic,
    )


def _parse(content: bytes, target: Target) -> InferenceResponse:
    try:
        return InferenceResponse.model_validate_json(content)
    except ValidationError as error:
        raise Unavailable(
            f"version {target.version} of model {target.model} returned a response that is not V2"
        ) from error
