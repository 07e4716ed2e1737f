"""Markdown from texts of the code: docstrings, descriptions and JSON Schemas."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from slipway_contract.docstring import one_line

BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} keys",
    "pattern": "pattern `{}`",
}
"""Keywords of JSON Schema that limit a value, each with its words."""


def line(text: str) -> str:
    """Return a docstring as one line of Markdown: the code of reStructuredText becomes that of
    Markdown.
    """
    return re.sub(r"``(.+?)``", r"`\1`", one_line(text))


def prose(text: str) -> str:
    """Return the same with a capital letter at the beginning."""
    return line(text)[:1].upper() + line(text)[1:]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a bar within a cell is escaped."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    ]


def value(default: Any) -> str:
    """Return a default as code: texts as they are written into an environment, others as JSON."""
    text = default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if text else "empty"


def kind(schema: dict[str, Any]) -> str:
    """Return the type that a JSON Schema describes, with its bounds; a reference becomes a link
    within the page.
    """
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(option) for option in options))
    if isinstance(types := schema.get("type"), list):
        options = [{**schema, "type": each} if each != "null" else {"type": each} for each in types]
        return " or ".join(kind(option) for option in options)
    if "allOf" in schema:
        return " and ".join(kind(each) for each in schema["allOf"])
    if "const" in schema:
        return value(schema["const"])
    if "enum" in schema:
        return " or ".join(value(each) for each in schema["enum"])
    bounds = [words.format(schema[key]) for key, words in BOUNDS.items() if key in schema]
    return ", ".join([_plain(schema), *bounds]).replace("at least 1 characters", "not empty")


def _plain(schema: dict[str, Any]) -> str:
    """Return the type without bounds."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    name = str(schema.get("type", "any value"))
    if name == "array" and schema.get("items"):
        return f"array of {kind(schema['items'])}"
    if name == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind(schema['additionalProperties'])}"
    if schema.get("format") == "path":
        return "path"
    return f"{name} ({schema['format']})" if schema.get("format") else name


def fields(schema: dict[str, Any]) -> list[str]:
    """Return a table of an object's fields; nothing for a schema without any."""
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            kind(each),
            "yes" if name in required else _default(each),
            prose(each.get("description", "")),
        )
        for name, each in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "required, or default", "meaning"), rows) if rows else []


def _default(schema: dict[str, Any]) -> str:
    return value(schema["default"]) if schema.get("default") is not None else "–"
