"""Conversion of a model signature to JSON Schema of its rows, with a valid example."""

from typing import Any

from slipway_contract.features import FeatureSet, KeyType
from slipway_contract.signature import Column, Lookup, Signature
from slipway_contract.v2 import Datatype

Json = dict[str, Any]


def row_schema(columns: tuple[Column, ...]) -> Json:
    """Return the JSON Schema (2020-12) of an object with exactly the given columns."""
    return {
        "type": "object",
        "properties": {column.name: column_schema(column) for column in columns},
        "required": [column.name for column in columns],
        "additionalProperties": False,
    }


KEY_SCHEMAS: dict[KeyType, Json] = {
    KeyType.TEXT: {"type": ["string", "integer"], "minLength": 1},
    KeyType.INTEGER: {"type": "integer"},
    KeyType.DATE: {"type": "string", "format": "date"},
}


def lookup_schema(lookup: Lookup, declared: FeatureSet | None, columns: tuple[Column, ...]) -> Json:
    """Return the JSON Schema of a row with keys.

    Inputs are optional; a given value overrides the looked-up one. Without a published feature
    set, the types of the keys are unknown.
    """
    types = dict.fromkeys(lookup.keys, KeyType.TEXT)
    if lookup.date:
        types[lookup.date] = KeyType.DATE
    optional = set()
    if declared:
        types |= {key.name: key.type for key in declared.keys if key.name in types}
        optional = {key.name for key in declared.keys if key.default}
    named: Json = {name: KEY_SCHEMAS[kind] for name, kind in types.items()}
    required = [name for name in named if name not in optional]
    return {
        "type": "object",
        "properties": named | {column.name: column_schema(column) for column in columns},
        "required": [*required, *(column.name for column in columns if not column.lookup)],
        "additionalProperties": False,
    }


def column_schema(column: Column) -> Json:
    """Return the JSON Schema of a value, or of nested lists by the column's shape."""
    schema = _value_schema(column)
    for size in reversed(column.shape):
        schema = {"type": "array", "items": schema, "minItems": size, "maxItems": size}
    if description := _description(column):
        schema["description"] = description
    return schema


def _value_schema(column: Column) -> Json:
    schema: Json = {"type": _type(column.datatype)}
    if column.codes:
        schema["enum"] = list(column.codes)
    if column.categories:
        schema["enum"] = list(column.categories)
    if column.max_length is not None:
        schema["maxLength"] = column.max_length
    low, high = column.datatype.bounds or (None, None)
    if column.minimum is not None or column.datatype.is_integer:
        schema["minimum"] = low if column.minimum is None else column.minimum
    if column.maximum is not None or column.datatype.is_integer:
        schema["maximum"] = high if column.maximum is None else column.maximum
    if column.missing:
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


def _type(datatype: Datatype) -> str:
    if datatype is Datatype.BYTES:
        return "string"
    if datatype is Datatype.BOOL:
        return "boolean"
    return "integer" if datatype.is_integer else "number"


def _description(column: Column) -> str:
    parts = [column.description, f"in {column.unit}" if column.unit else ""]
    parts += [f"{code} = {meaning}" for code, meaning in (column.codes or {}).items()]
    return "; ".join(part for part in parts if part)


def example(signature: Signature) -> Json:
    """Return a row that the signature accepts: first codes, midpoints of ranges, or bounds."""
    return {column.name: _example(column) for column in signature.inputs}


def _example(column: Column) -> Any:
    value = _example_value(column)
    return value if not column.shape else _nested(value, column.shape)


def _nested(value: Any, shape: tuple[int, ...]) -> Any:
    size, *rest = shape
    return [_nested(value, tuple(rest)) if rest else value] * size


def _example_value(column: Column) -> Any:
    if column.categories:
        return column.categories[0]
    if column.datatype is Datatype.BYTES:
        return "some text"[: column.max_length]
    if column.datatype is Datatype.BOOL:
        return True
    if column.codes:
        return next(iter(column.codes))
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        value: float = (low + high) / 2
    else:
        value = low if low is not None else high or 0
    if not column.datatype.is_integer:
        return value
    return int(value) if low is None or int(value) >= low else int(value) + 1
