"""The OpenAPI document; for an authenticated caller with a path for each granted model."""

import copy
import time
from collections.abc import Callable

import orjson
from fastapi import Request, Response
from slipway_contract.signature import Signature

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.route import Router
from slipway_gateway.access.rules import PUBLIC, Permission
from slipway_gateway.errors import Unavailable
from slipway_gateway.inference.metadata_cache import ModelMetadataCache
from slipway_gateway.inference.routing import Routes, Target
from slipway_gateway.preprocessing.cells import cells
from slipway_gateway.preprocessing.form import KIND
from slipway_gateway.preprocessing.lookup import Features
from slipway_gateway.preprocessing.ranking import ranked
from slipway_gateway.preprocessing.schema import (
    Json,
    column_schema,
    example,
    lookup_schema,
    row_schema,
)

GENERAL = "/v1/models/{model}/predictions"
MAX_CACHED = 32
EXAMPLE_VALUES = 1000
"""Maximum number of values of an example, if an image can be sent instead."""


class ApiDocument:
    """The route ``/v1/openapi.json``.

    A granted model that is served has a separate path with a typed schema and an example. An
    unauthenticated caller gets no model names.
    """

    def __init__(
        self,
        general: Callable[[], Json],
        routes: Routes,
        grants: GrantWatch,
        metadata_cache: ModelMetadataCache,
        features: Features,
    ) -> None:
        self._general = general
        self._routes = routes
        self._grants = grants
        self._metadata_cache = metadata_cache
        self._features = features
        self._cache: dict[bytes, bytes] = {}

    def router(self) -> Router:
        router = Router(prefix="/v1", include_in_schema=False)
        permission = Permission("openapi", PUBLIC, optional_authentication=True)
        router.add("GET /openapi.json", self.document, permission)
        return router

    async def document(self, request: Request) -> Response:
        context: RequestContext | None = request.scope["slipway.state"].context
        signatures = await self._signatures(context) if context else []
        key = orjson.dumps(
            [
                (each.model, each.digest, self._lookup(each.model, signature))
                for each, signature in signatures
            ]
        )
        content = self._cache.get(key)
        if content is None:
            content = orjson.dumps(self._with_models(signatures))
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key] = content
        return Response(content, media_type="application/json")

    async def _signatures(self, context: RequestContext) -> list[tuple[Target, Signature]]:
        """Return the signatures of the available live versions that are granted to the caller."""
        granted, now = self._grants.snapshot, time.time()
        found = []
        for name, route in sorted(self._routes.snapshot.items()):
            if route.live and granted.find(context.caller, name, now):
                try:
                    found.append((route.live, await self._metadata_cache.signature(route.live)))
                except Unavailable:
                    continue
        return found

    def _lookup(self, model: str, signature: Signature) -> tuple[Json | None, Json | None]:
        """Return an example and the schema of a row with keys; None without a lookup."""
        if signature.lookup is None:
            return None, None
        known = self._features.admitted(model, signature.lookup)
        schema = lookup_schema(
            signature.lookup, known.declared if known else None, signature.inputs
        )
        return self._features.example(known), schema

    def _with_models(self, signatures: list[tuple[Target, Signature]]) -> Json:
        document = self._general()
        if not signatures:
            return document
        document = copy.deepcopy(document)
        general = document["paths"][GENERAL]["post"]
        for target, signature in signatures:
            looked_up = self._lookup(target.model, signature)
            path, operation = _operation(general, target, signature, *looked_up)
            document["paths"][path] = {"post": operation}
        return document


def _operation(
    general: Json,
    target: Target,
    signature: Signature,
    looked_up: Json | None,
    keys: Json | None,
) -> tuple[str, Json]:
    """Return the path and the prediction operation of one model, made from ``general``.

    ``looked_up`` is an example of a row with keys, and ``keys`` its schema.
    """
    operation = copy.deepcopy(general)
    operation["parameters"] = _without("model", operation["parameters"])
    operation["operationId"] = f"predict_{target.model}"
    operation["tags"] = ["predictions"]
    operation["summary"] = f"Predict with {target.model}"
    operation["description"] = (
        f"The schema is that of version {target.version}, which receives most of the traffic."
    )
    operation["requestBody"]["content"] = _content(signature, looked_up, keys)
    answer = operation["responses"]["200"]["content"]["application/json"]
    row = row_schema(signature.outputs)
    if ranked(signature):
        row["properties"]["top"] = {
            "type": "array",
            "description": "the most probable classes; only with the query parameter top",
        }
    else:
        operation["parameters"] = _without("top", operation["parameters"])
    rows = {"type": "array", "items": row}
    answer["schema"] = {"allOf": [answer["schema"], {"properties": {"predictions": rows}}]}
    return GENERAL.replace("{model}", target.model), operation


def _without(name: str, parameters: list[Json]) -> list[Json]:
    """Return the parameters without one, which may be a reference."""
    removed = (name, f"#/components/parameters/{name}")
    return [each for each in parameters if each.get("name", each.get("$ref")) not in removed]


def _content(signature: Signature, looked_up: Json | None, keys: Json | None) -> Json:
    content = {"application/json": _request(signature, looked_up, keys)}
    images = next((column for column in signature.inputs if column.image), None)
    if images:
        if cells(signature, 1) > EXAMPLE_VALUES:
            del content["application/json"]["example"]
        file = {
            "type": "string",
            "format": "binary",
            "contentMediaType": "application/octet-stream",
        }
        others = {
            column.name: column_schema(column) for column in signature.inputs if not column.image
        }
        fields = {images.name: {"type": "array", "minItems": 1, "items": file}, **others}
        content[KIND] = {
            "schema": {"type": "object", "properties": fields, "required": list(fields)}
        }
    return content


def _request(signature: Signature, looked_up: Json | None, keys: Json | None) -> Json:
    row = row_schema(signature.inputs)
    row = {"anyOf": [keys, row]} if keys else row
    rows = {"type": "array", "minItems": 1, "items": row}
    schema = {
        "type": "object",
        "properties": {"instances": rows},
        "required": ["instances"],
        "additionalProperties": False,
    }
    return {"schema": schema, "example": {"instances": [looked_up or example(signature)]}}
