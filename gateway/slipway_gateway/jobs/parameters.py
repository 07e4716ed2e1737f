"""Parameters of a Job template: its JSON Schema, and the validation of a caller's values."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from slipway_cluster.interface import Manifest
from slipway_contract.errors import InvalidInput
from slipway_contract.labels import PARAMETERS

from slipway_gateway.errors import Unavailable

NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


def schema_of(template: Manifest) -> dict[str, Any]:
    """Return the JSON Schema in the template's annotation; without one it has no parameters.

    Raises Unavailable when the annotation is not a JSON Schema.
    """
    text = template["metadata"].get("annotations", {}).get(PARAMETERS)
    if text is None:
        return NOTHING
    name = template["metadata"]["name"]
    try:
        schema = orjson.loads(text)
        Draft202012Validator.check_schema(schema)
    except (orjson.JSONDecodeError, SchemaError):
        raise Unavailable(
            f"the annotation {PARAMETERS} of the Job template {name} is not a valid JSON Schema"
        ) from None
    # Only the Job would detect an undeclared parameter, minutes later.
    return {**schema, "type": "object", "additionalProperties": False}


def check(schema: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Validate parameters against the schema. Raises InvalidInput with the parameter's name."""
    known = schema.get("properties", {})
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise InvalidInput(
                f"parameters.{name}", f"is not a parameter of this training; it takes {takes}"
            )
        if isinstance(value, int | float) and not _is_json_number(value):
            raise InvalidInput(
                f"parameters.{name}",
                f"{value!s:.40} is not a finite number of at most 64 bits; send such a number",
            )
    worst = best_match(Draft202012Validator(schema).iter_errors(given))
    if worst is not None:
        field = ".".join(["parameters", *map(str, worst.absolute_path)])
        raise InvalidInput(field, _problem(worst, known))
    for name, value in given.items():
        if isinstance(value, dict | list) or "\0" in str(value):
            raise InvalidInput(f"parameters.{name}", "is not a string, number or boolean")


def _is_json_number(value: float) -> bool:
    """Return False for numbers that only Python's parser accepts: long integers, NaN, infinity."""
    return math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**64


def _problem(error: ValidationError, known: Mapping[str, Any]) -> str:
    about = known.get(str(next(iter(error.absolute_path), "")), {}).get("description")
    return f"{error.message:.300}" + (f" ({about})" if about else "")


def arguments(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield ``--set=NAME=VALUE`` for each parameter except null ones."""
    for name, value in given.items():
        if value is not None:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            yield f"--set={name}={text}"
