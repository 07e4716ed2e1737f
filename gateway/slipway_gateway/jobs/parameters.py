"""Parameters of a Job template: what it takes, as it says itself, and what a caller gave."""

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
    """JSON Schema of what the template takes: its annotation. One that says nothing takes nothing.
    Raises Unavailable.
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
            f"what the Job template {name} takes cannot be read: its annotation {PARAMETERS} "
            "is wrong"
        ) from None
    # What nobody has declared would only be found out by the Job, minutes later.
    return {**schema, "type": "object", "additionalProperties": False}


def check(schema: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises InvalidInput naming the parameter."""
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
        raise InvalidInput(
            ".".join(["parameters", *map(str, worst.absolute_path)]), _said(worst, known)
        )
    for name, value in given.items():
        if isinstance(value, dict | list) or "\0" in str(value):
            raise InvalidInput(f"parameters.{name}", "is not a plain value")


def _is_json_number(value: float) -> bool:
    """Python's parser reads more than others do: whole numbers of any length, NaN and infinity."""
    return math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**64


def _said(error: ValidationError, known: Mapping[str, Any]) -> str:
    about = known.get(str(next(iter(error.absolute_path), "")), {}).get("description")
    return f"{error.message:.300}" + (f" ({about})" if about else "")


def arguments(given: Mapping[str, Any]) -> Iterator[str]:
    """``--set=NAME=VALUE`` for each; a null is one that was not given."""
    for name, value in given.items():
        if value is not None:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            yield f"--set={name}={text}"
