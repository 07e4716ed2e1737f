"""Validation of callers' bodies stops at the first error, so that long bodies cost no more."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slipway_gateway
from fastapi.routing import APIRoute
from pydantic import BaseModel
from slipway_contract.body import CallerBody

from tests.gateway.environment import Client

SOURCES = Path(slipway_gateway.__file__).parent
TRUSTED = {
    ("inference/binary.py", "InferenceResponse"),  # the predictor's response
    ("inference/row_predictions.py", "InferenceResponse"),
    ("preprocessing/image.py", "ImageSpec"),  # an argument of our own process, from the signature
}
"""Modules in which pydantic parses JSON, and the source of that JSON."""
LISTS = ("list", "set", "frozenset", "generator")


def bodies(kind: type[BaseModel] = CallerBody) -> Iterator[type[BaseModel]]:
    for each in kind.__subclasses__():
        yield each
        yield from bodies(each)


def unbounded(schema: Any, path: str = "") -> Iterator[str]:
    """Return the parts of a pydantic core schema with many errors or items of one body."""
    if isinstance(schema, list | tuple):
        for each in schema:
            yield from unbounded(each, path)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    inner: dict[str, Any] = (
        schema.get("items_schema") or schema.get("values_schema") or {"type": "any"}
    )
    validates = inner["type"] != "any"
    if kind in LISTS and validates and not (schema.get("fail_fast") and schema.get("max_length")):
        yield (
            f"{path}: validates each item of a {kind}; give its field fail_fast=True and max_length"
        )
    if kind == "dict" and (validates or schema.get("max_length") is None):
        yield f"{path}: validates each value of a dict, or takes a dict of any length"
    if kind == "model" and not issubclass(schema["cls"], CallerBody):
        yield f"{path}: {schema['cls'].__name__} is no CallerBody"
    for name, part in schema.items():
        if name not in ("metadata", "serialization", "default"):
            yield from unbounded(
                part,
                f"{path}.{name}"
                if kind == "model-fields" or name not in ("schema", "fields")
                else path,
            )


@pytest.mark.parametrize(
    "model", sorted({*bodies()}, key=str), ids=lambda model: str(model.__name__)
)
def test_a_model_of_a_callers_body_stops_at_the_first_wrong_item(model: type[BaseModel]) -> None:
    assert [*unbounded(model.__pydantic_core_schema__)] == []


def test_an_unbounded_list_is_found() -> None:
    class Unbounded(CallerBody):
        names: list[int]
        values: dict[str, int]

    assert len([*unbounded(Unbounded.__pydantic_core_schema__)]) == 2


def routes(given: Iterable[Any]) -> Iterator[APIRoute]:
    """Yield all routes, including those of included routers."""
    for each in given:
        if isinstance(each, APIRoute):
            yield each
        elif router := getattr(each, "original_router", None):
            yield from routes(router.routes)


def test_every_body_of_a_route_is_validated_by_such_a_model(client: Client) -> None:
    parameters = [
        parameter.field_info.annotation
        for route in routes(client.gateway.api.routes)
        for parameter in route.dependant.body_params
    ]
    assert len(parameters) >= 7
    assert [
        each for each in parameters if not (isinstance(each, type) and issubclass(each, CallerBody))
    ] == []


def calls(name: str) -> Iterator[tuple[str, str]]:
    """Return module and object of each call of a method with this name."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == name
            ):
                yield path.relative_to(SOURCES).as_posix(), ast.unparse(node.func.value)


def test_pydantic_does_not_parse_json_of_callers() -> None:
    """Compare the modules; pydantic, unlike ``read_json``, parses before it counts values."""
    assert {*calls("model_validate_json")} == TRUSTED
    assert not {*calls("validate_json")}
    assert not [each for each in calls("json") if "request" in each[1]]
