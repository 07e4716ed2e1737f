"""Request bodies: limited before they are parsed, validated up to the first error.

A Python object takes 20 to 300 times the bytes of its JSON, and pydantic creates an error object
for each wrong item. Therefore the number of values is counted in the text first, and the model of a
request body reports few errors, however long the body is.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError, from_json

from slipway_contract.errors import MalformedRequest, TooManyValues

VALUES = 2**19
"""Default limit of rows × columns of one request.

It allows 40,000 rows of 13 columns, or three images of 224 × 224 pixels in colour.
"""
CONTAINERS = 2**16
"""Limit of lists and objects of one body.

A row is one container; each takes up to 250 bytes, where a number takes 32.
"""
ENVELOPE = 2**16
"""Values of one body that are not in its rows: names, datatypes, shapes, parameters."""
FIELDS = 2**10
"""Limit of fields, known or unknown, of one object that is not a row."""
PIECE = 2**16
"""Bytes counted in one call, during which no other thread of the process runs."""

_BACKSLASHES = re.compile(rb"\\*")


class CallerBody(BaseModel):
    """A JSON object in a request. Of several unknown fields it reports only the first.

    Lists of a subclass have a maximum length and stop at the first wrong item (``fail_fast``);
    dicts have values of any type. A test checks this of every model that validates a request body.
    """

    @model_validator(mode="before")
    @classmethod
    def _report_one_unknown_field(cls, given: Any) -> Any:
        if type(given) is not dict:
            return given
        if len(given) > FIELDS:
            raise PydanticCustomError("too_long", "has more than {most} fields", {"most": FIELDS})
        if cls.model_config.get("extra") != "forbid":
            return given
        known = {name for key, field in cls.model_fields.items() for name in (key, field.alias)}
        first = next((name for name in given if name not in known), None)
        if first is None:
            return given
        return {name: value for name, value in given.items() if name in known or name == first}


def read_json(body: bytes, limit: int = VALUES, loads: Callable[[bytes], Any] = from_json) -> Any:
    """Return the JSON value of a body with at most about ``limit`` values.

    ``loads`` parses it and raises ValueError. Raises TooManyValues before anything is parsed, and
    MalformedRequest.
    """
    check_size(body, limit)
    if not body or body.isspace():
        raise MalformedRequest("the body is not JSON: it is empty; send a JSON object")
    try:
        return loads(body)
    except ValueError as error:
        raise MalformedRequest(f"the body is not JSON: {_reason(body, error)}") from None


def _reason(body: bytes, error: ValueError) -> str:
    """Explain why a parser rejects the body.

    RFC 8259 has no NaN and no infinity, but Python's ``json.dumps`` writes them.
    """
    if any(word in body for word in (b"NaN", b"Infinity")):
        try:
            from_json(body)
        except ValueError:
            return str(error)
        return "it has NaN or Infinity, which JSON does not have; send null for a missing value"
    return str(error)


def check_size(body: bytes, limit: int) -> None:
    """Raise TooManyValues when the JSON text has too many values, or too many lists and objects."""
    # Commas and brackets inside strings are not values. Skipping strings takes longer, so it is
    # done last.
    if not _fits(_pieces(body), limit) and not _fits(_without_texts(body), limit):
        raise TooManyValues(limit)


def _fits(pieces: Iterable[bytes], limit: int) -> bool:
    values = containers = 0
    for piece in pieces:
        values += piece.count(b",")
        containers += piece.count(b"[") + piece.count(b"{")
        if values > limit + ENVELOPE or containers > CONTAINERS:
            return False
    return True


def _pieces(body: bytes) -> Iterator[bytes]:
    """Yield pieces of about ``PIECE`` bytes; an escape sequence is not divided."""
    start = 0
    while start < len(body):
        end = start + PIECE
        if body[end - 1 : end] == b"\\" and (run := _BACKSLASHES.match(body, end)):
            end = run.end() + 1  # with the character that the last one escapes
        yield body[start:end]
        start = end


def _without_texts(body: bytes) -> Iterator[bytes]:
    """Yield the body in pieces without the content of its JSON strings."""
    inside = False
    for piece in _pieces(body):
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
