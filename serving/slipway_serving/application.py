"""MLServer's HTTP application, less what strangers must not reach, with the protocol's errors."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import mlserver
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from mlserver.handlers import DataPlane
from mlserver.middleware import InferenceMiddlewares
from mlserver.registry import MultiModelRegistry
from mlserver.rest.app import create_app
from mlserver.rest.responses import Response
from mlserver.types import InferenceRequest, InferenceResponse
from slipway_contract.errors import InvalidInput, MalformedRequest
from starlette.exceptions import HTTPException
from starlette.routing import Route

_log = logging.getLogger(__name__)

_MODEL = "/v2/models/{model_name}"
_VERSION = _MODEL + "/versions/{model_version}"
ROUTES = frozenset(
    {"/v2", "/v2/health/live", "/v2/health/ready", *(p + s for p in (_MODEL, _VERSION) for s in ("", "/ready", "/infer"))}
)
"""All that is served. MLServer's /v2/repository would let any caller load and unload models."""


def mlserver_settings() -> mlserver.Settings:
    """MLServer's settings from its MLSERVER_ variables, but for those that must not be otherwise here.

    Debugging would send stack traces to callers; parallel workers die with today's uvloop and were slower; gzip costs
    more time than a prediction; a `.env` in the working folder is not ours to read.
    """
    fixed: dict[str, Any] = {"debug": False, "parallel_workers": 0, "gzip_enabled": False, "cache_enabled": False}
    return mlserver.Settings(_env_file=None, **fixed)


class SlipwayDataPlane(DataPlane):  # type: ignore[misc]  # MLServer comes without types
    """MLServer's, without two habits."""

    def __init__(self, settings: mlserver.Settings, registry: MultiModelRegistry) -> None:
        super().__init__(settings, registry)
        # CloudEvents headers copy the caller's request id into a header, unescaped.
        self._inference_middleware = InferenceMiddlewares()

    async def infer(self, payload: InferenceRequest, name: str, version: str | None = None) -> InferenceResponse:
        """Look the model up first: MLServer makes a metric of every name it is asked for, known or not."""
        await self._model_registry.get_model(name, version)
        return await super().infer(payload, name, version)


def create_application(settings: mlserver.Settings, registry: MultiModelRegistry) -> FastAPI:
    """The V2 protocol over HTTP for the models of the registry. Once a process: its metrics are the process's."""
    app: FastAPI = create_app(settings, SlipwayDataPlane(settings, registry), model_repository_handlers=None)
    app.router.routes = [route for route in app.router.routes if isinstance(route, Route) and route.path in ROUTES]
    for kind, status in _STATUSES.items():
        app.add_exception_handler(kind, _answer_with(status))
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
    return app


_STATUSES: dict[type[Exception], int] = {InvalidInput: 422, MalformedRequest: 400}


def _answer_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        return Response({"error": str(error)}, status_code=status)

    return answer


async def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    what = str(first.get("ctx", {}).get("error", first["msg"])) if first["type"] == "json_invalid" else first["msg"]
    if first["type"] == "json_invalid":
        return Response({"error": f"the body is not JSON: {what}"}, status_code=400)
    return Response({"error": f"{where}: {what}" if where else what}, status_code=400)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    return Response({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response({"error": "the model failed on this request"}, status_code=500)
