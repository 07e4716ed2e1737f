"""MLServer's HTTP application without its repository API, and with the V2 protocol's errors."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import mlserver
import orjson
from fastapi import FastAPI, Request
from mlserver.codecs.json import encode_to_json_bytes
from mlserver.handlers import DataPlane
from mlserver.middleware import InferenceMiddlewares
from mlserver.registry import MultiModelRegistry
from mlserver.rest.app import create_app
from mlserver.rest.responses import Response
from mlserver.types import InferenceRequest, InferenceResponse
from slipway_contract.body import VALUES
from slipway_contract.errors import (
    InfiniteOutput,
    InvalidInput,
    InvalidOutput,
    MalformedRequest,
    TooManyValues,
)
from slipway_contract.v2 import Datatype, parse_request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response as PlainResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from slipway_serving.tensors import mlserver_request
from slipway_serving.threads import run

_log = logging.getLogger(__name__)

INLINE = 2**16
"""Bytes that are parsed or serialized in the event loop; larger bodies are handled in a thread."""

_MODEL = "/v2/models/{model_name}"
_VERSION = _MODEL + "/versions/{model_version}"
ROUTES = frozenset(
    {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(p + s for p in (_MODEL, _VERSION) for s in ("", "/ready", "/infer")),
    }
)
"""The paths that are served. MLServer's /v2/repository would let any caller load and unload models.
"""


def mlserver_settings() -> mlserver.Settings:
    """Return MLServer's settings from its MLSERVER_ variables, with four of them fixed.

    `debug` would send stack traces to callers; parallel workers crash with the locked uvloop and
    measured slower; gzip costs more time than a prediction; the cache would bypass validation. A
    `.env` file in the working directory is ignored.
    """
    fixed: dict[str, Any] = {
        "debug": False,
        "parallel_workers": 0,
        "gzip_enabled": False,
        "cache_enabled": False,
    }
    return mlserver.Settings(_env_file=None, **fixed)


class SlipwayDataPlane(DataPlane):  # type: ignore[misc]  # MLServer comes without types
    """MLServer's data plane without CloudEvents headers and metrics of unknown model names."""

    def __init__(self, settings: mlserver.Settings, registry: MultiModelRegistry) -> None:
        super().__init__(settings, registry)
        # The CloudEvents middleware copies the caller's request id into a header, unescaped.
        self._inference_middleware = InferenceMiddlewares()

    async def infer(
        self, payload: InferenceRequest, name: str, version: str | None = None
    ) -> InferenceResponse:
        """Run inference for a registered model; raise ModelNotFound for any other name.

        The model is looked up first because MLServer creates a metric for each name it receives.
        """
        await self._model_registry.get_model(name, version)
        return await super().infer(payload, name, version)


def create_application(
    settings: mlserver.Settings, registry: MultiModelRegistry, value_limit: int = VALUES
) -> FastAPI:
    """Return the V2 protocol over HTTP for the registry's models.

    Call it once a process: MLServer's metrics are registered process-wide.
    """
    data_plane = SlipwayDataPlane(settings, registry)
    app: FastAPI = create_app(settings, data_plane, model_repository_handlers=None)
    inference = Inference(data_plane, value_limit)
    app.router.routes = [
        Route(route.path, inference, methods=["POST"]) if route.path.endswith("/infer") else route
        for route in app.router.routes
        if isinstance(route, Route) and route.path in ROUTES
    ]
    for kind, status in _STATUSES.items():
        app.add_exception_handler(kind, _error_handler(status))
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return app


class Inference:
    """``POST …/infer``, as an ASGI application.

    MLServer's own endpoint creates an error object for each wrong item of a body and validates its
    responses a second time. Here the contract's parser reads the request and stops at the first
    error.
    """

    def __init__(self, data_plane: DataPlane, value_limit: int) -> None:
        self._data_plane = data_plane
        self._value_limit = value_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive), **scope["path_params"])
        await response(scope, receive, send)

    async def _respond(
        self, request: Request, model_name: str, model_version: str | None = None
    ) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            raise HTTPException(
                400, "the client disconnected before the body was complete"
            ) from None
        payload = await run(len(body) > INLINE, self._read, body)
        response = await self._data_plane.infer(payload, model_name, model_version)
        size = sum(len(output.data.root) for output in response.outputs) * _VALUE_BYTES
        content = await run(size > INLINE, _serialized, response)
        return PlainResponse(content, media_type="application/json")

    def _read(self, body: bytes) -> InferenceRequest:
        """Parse a request body; the values are validated later, with the model signature.

        Raises TooManyValues, MalformedRequest or InvalidInput.
        """
        return mlserver_request(
            parse_request(body, self._value_limit, loads=orjson.loads, values=False)
        )


_FLOATS = frozenset(datatype.value for datatype in Datatype if datatype.is_float)
_INFINITE = frozenset({math.inf, -math.inf})
_VALUE_BYTES = 8
"""Approximate bytes of JSON that one value of a response takes."""


def _serialized(response: InferenceResponse) -> bytes:
    """Return a response as JSON, with the model's name first.

    Raises InfiniteOutput for an infinite value, which would be serialized as null, a missing value.
    """
    for output in response.outputs:
        if output.datatype in _FLOATS and not _INFINITE.isdisjoint(output.data.root):
            at, value = next((i, v) for i, v in enumerate(output.data.root) if v in _INFINITE)
            raise InfiniteOutput(output.name, at, value)
    content = response.model_dump(exclude={"outputs"}, exclude_none=True)
    content["outputs"] = [
        {**output.model_dump(exclude={"data"}, exclude_none=True), "data": output.data.root}
        for output in response.outputs
    ]
    encoded: bytes = encode_to_json_bytes(content)
    return encoded


_STATUSES: dict[type[Exception], int] = {
    InvalidInput: 422,
    InfiniteOutput: 422,  # caused by the values of the request's row
    MalformedRequest: 400,
    TooManyValues: 413,
    InvalidOutput: 500,
}


def _error_handler(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_request: Request, error: Exception) -> Response:
        return Response({"error": str(error)}, status_code=status)

    return handle


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    return Response({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response({"error": "the model failed on this request"}, status_code=500)
