"""Definitions shared by routes in FastAPI: permissions, request context, error responses."""

import itertools
from collections.abc import Callable
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
_PROBLEM: dict[str, Any] = {
    "description": "Error",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = {"default": _PROBLEM}
"""The error responses of a route: any status, with problem details."""


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
        options.setdefault("response_description", "OK")
        self.rules.append(permission.at(method, self.prefix + path))
        super().add_api_route(path, handler, methods=[method], **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **_: Any) -> None:
        """Raise ValueError, because the route has no permission."""
        raise ValueError(
            f"route {self.prefix}{path} of {endpoint.__name__} declares no permission; "
            "add it by Router.add"
        )


class Api(FastAPI):
    """FastAPI with an OpenAPI document that describes once what operations share.

    These are the error response (RFC 9457), the login and parameters. FastAPI would repeat the
    error for each status of each operation: 435 KB instead of 65.
    """

    def __init__(self, outside: dict[str, Any], **options: Any) -> None:
        """Make an application; ``outside`` has the OpenAPI paths and components of other routes."""
        self._outside = outside
        super().__init__(**options)

    def openapi(self) -> dict[str, Any]:
        """Return the document; operations refer to what ``components`` describes."""
        if self.openapi_schema is None:
            document = super().openapi()
            components = document["components"]
            components["schemas"]["Problem"] = Problem.model_json_schema(by_alias=True)
            components["responses"] = {"Problem": _PROBLEM}
            operations = [each for path in document["paths"].values() for each in path.values()]
            for operation in operations:
                if operation["responses"].get("default") == _PROBLEM:
                    reference = {"$ref": "#/components/responses/Problem"}
                    operation["responses"]["default"] = reference
            deep_dict_update(document, self._outside)
            document["security"] = [{name: []} for name in components.get("securitySchemes", {})]
            for path in document["paths"].values():
                for method in path.keys() - {"parameters"}:
                    if path[method].pop("security", None) != document["security"]:
                        path[method]["security"] = []
            _compact(document["paths"])
            _compact(document["components"])
            _share_parameters(operations, components["parameters"])
        return cast("dict[str, Any]", self.openapi_schema)


def _share_parameters(operations: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    """Replace parameters that several operations have by references to ``shared``."""
    found = [each for operation in operations for each in operation.get("parameters", [])]
    for parameter in found:
        if not parameter.get("required"):
            parameter.pop("required", None)  # the default is false
        if parameter.get("schema", {}).get("description") == parameter.get("description"):
            parameter.get("schema", {}).pop("description", None)
    for operation in operations:
        given = operation.get("parameters", [])
        for index, parameter in enumerate(given):
            if found.count(parameter) > 1 and "$ref" not in parameter:
                given[index] = {"$ref": f"#/components/parameters/{_shared(parameter, shared)}"}


def _shared(parameter: dict[str, Any], shared: dict[str, Any]) -> str:
    """Return the name of the parameter in ``shared``, and add it if it is new."""
    for number in itertools.count(1):
        name = parameter["name"] if number == 1 else f"{parameter['name']}{number}"
        if shared.setdefault(name, parameter) == parameter:
            return name
    raise AssertionError


def _compact(schema: Any) -> None:
    """Remove titles that pydantic makes of names, and write the type of a nullable value as a list.

    They are 8 KB of the document.
    """
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        options = schema.get("anyOf")
        if isinstance(options, list) and options[1:] == [{"type": "null"}]:
            (value,) = options[:1]
            if isinstance(value.get("type"), str) and not value.keys() & {"const", "enum"}:
                del schema["anyOf"]
                schema |= {**value, **schema, "type": [value["type"], "null"]}
        for each in schema.values():
            _compact(each)
    elif isinstance(schema, list):
        for each in schema:
            _compact(each)
