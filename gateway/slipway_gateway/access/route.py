"""Definitions shared by routes in FastAPI: permissions, request context, error responses."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from fastapi.utils import deep_dict_update

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.rules import Permission, Rule
from slipway_gateway.http.schema import Problem


def operation_id(route: APIRoute) -> str:
    """Return the OpenAPI operation id of a route: the name of its handler."""
    return route.name


def current_context(request: Request) -> RequestContext:
    """Return the context that the edge middleware stored for this request."""
    context: RequestContext = request.scope["slipway.state"].context
    return context


CurrentContext = Annotated[RequestContext, Depends(current_context)]
STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)
_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in STATUSES
}


class Router(APIRouter):
    """A router whose routes declare their permissions; ``rules`` are their access rules."""

    def __init__(self, **options: Any) -> None:
        self.rules: list[Rule] = []
        super().__init__(**options)

    def add(
        self, route: str, handler: Callable[..., Any], permission: Permission, **options: Any
    ) -> None:
        """Add a route such as ``GET /{job}`` with its permission; the options are FastAPI's."""
        method, _, path = route.partition(" ")
        self.rules.append(permission.at(method, self.prefix + path))
        super().add_api_route(path, handler, methods=[method], **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **_: Any) -> None:
        """Raise ValueError, because the route has no permission."""
        raise ValueError(
            f"route {self.prefix}{path} of {endpoint.__name__} declares no permission; "
            "add it by Router.add"
        )


class Api(FastAPI):
    """FastAPI with an OpenAPI document that describes each error response once (RFC 9457).

    FastAPI would repeat the schema for each status of each operation: 435 KB instead of 90.
    """

    def __init__(self, outside: dict[str, Any], **options: Any) -> None:
        """Make an application; ``outside`` has the OpenAPI paths and components of other routes."""
        self._outside = outside
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        """Return the document; error responses refer to ``components.responses``."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            components["schemas"]["Problem"] = Problem.model_json_schema(by_alias=True)
            names = {str(status): f"E{status}" for status in STATUSES}
            components["responses"] = {names[str(key)]: each for key, each in PROBLEMS.items()}
            for operations in document["paths"].values():
                for operation in operations.values():
                    for status, response in operation["responses"].items():
                        if response == components["responses"].get(names.get(status)):
                            reference = f"#/components/responses/{names[status]}"
                            operation["responses"][status] = {"$ref": reference}
            deep_dict_update(document, self._outside)
            _drop_titles(document["paths"])
            _drop_titles(document["components"])
        return cast("dict[str, Any]", self.openapi_schema)


def _drop_titles(schema: Any) -> None:
    """Remove the titles that pydantic makes of names, which are 6 KB of the document."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for each in schema.values():
            _drop_titles(each)
    elif isinstance(schema, list):
        for each in schema:
            _drop_titles(each)
