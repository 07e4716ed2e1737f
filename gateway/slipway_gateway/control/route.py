"""Definitions shared by routes under ``/v1``: request context, operation id, error responses."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute

from slipway_gateway.access.context import RequestContext
from slipway_gateway.control.schemas import Problem


def operation_id(route: APIRoute) -> str:
    """Return the OpenAPI operation id of a route: the name of its handler."""
    return route.name


def current_context(request: Request) -> RequestContext:
    """Return the context that the edge middleware stored for this request."""
    context: RequestContext = request.scope["slipway.context"]
    return context


CurrentContext = Annotated[RequestContext, Depends(current_context)]
STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)
_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema(by_alias=True)}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in STATUSES
}
