"""Definitions shared by routes under ``/v1``: request context, operation id, error responses."""

from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request
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
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in STATUSES
}


class ControlApi(FastAPI):
    """FastAPI with an OpenAPI document that describes each error response once (RFC 9457).

    FastAPI would repeat the schema for each status of each operation: 435 KB instead of 90.
    """

    def openapi(self) -> dict[str, Any]:
        """Return the document; error responses refer to ``components.responses``."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            components["schemas"]["Problem"] = Problem.model_json_schema(by_alias=True)
            names = {str(status): HTTPStatus(int(status)).name for status in STATUSES}
            components["responses"] = {names[str(key)]: each for key, each in PROBLEMS.items()}
            for operations in document["paths"].values():
                for operation in operations.values():
                    for status, response in operation["responses"].items():
                        if response == components["responses"].get(names.get(status)):
                            reference = f"#/components/responses/{names[status]}"
                            operation["responses"][status] = {"$ref": reference}
        return cast("dict[str, Any]", self.openapi_schema)
