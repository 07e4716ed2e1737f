"""Bodies of callers: bounded before they are parsed, validated up to the first error.

An object of Python takes 20 to 300 times the bytes of its JSON, and pydantic makes an error object of each wrong item. So the
number of values is counted in the text first, and a model of a caller's body reports few errors, however long the body is.
"""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, model_validator
from pydantic_core import from_json

from slipway_contract.errors import MalformedRequest, TooManyValues

VALUES = 2**19
"""Default limit of rows × columns of one request: 40,000 rows of 13 columns, or three pictures of 224 × 224 pixels in colour."""
CONTAINERS = 2**16
"""Lists and objects of one body. A row is one; each takes up to 250 bytes, where a number takes 32."""
ENVELOPE = 2**16
"""Values of one body beside those of its rows: names, datatypes, shapes, parameters."""
PIECE = 2**20
"""Bytes that are counted in one call, during which no other thread of the process runs."""


class CallerBody(BaseModel):
    """A JSON object that a caller sends. Of several unknown fields only the first is reported.

    Lists of a subclass have a maximum length and stop at the first wrong item (``fail_fast``); dicts have values of any type.
    A test checks this of every model that validates a caller's body.
    """

    @model_validator(mode="before")
    @classmethod
    def _report_one_unknown_field(cls, given: Any) -> Any:
        if cls.model_config.get("extra") != "forbid" or type(given) is not dict:
            return given
        known = {name for key, field in cls.model_fields.items() for name in (key, field.alias)}
        first = next((name for name in given if name not in known), None)
        if first is None:
            return given
        return {name: value for name, value in given.items() if name in known or name == first}


def read_json(body: bytes, limit: int = VALUES, loads: Callable[[bytes], Any] = from_json) -> Any:
    """The JSON value of a body with at most about ``limit`` values; ``loads`` parses it and raises ValueError.

    Raises TooManyValues before anything is parsed, and MalformedRequest.
    """
    check_size(body, limit)
    try:
        return loads(body)
    except ValueError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None


def check_size(body: bytes, limit: int) -> None:
    """Raise TooManyValues when the JSON text has more values or more lists and objects than a request may have."""
    # Commas and brackets inside texts are no values. To skip the texts takes longer, so it is done last.
    if not _fits(body, limit, _pieces(body)) and not _fits(body, limit, _outside_texts(body)):
        raise TooManyValues(limit)


def _fits(body: bytes, limit: int, spans: Iterator[tuple[int, int]]) -> bool:
    values = containers = 0
    for start, end in spans:
        values += body.count(b",", start, end)
        containers += body.count(b"[", start, end) + body.count(b"{", start, end)
        if values > limit + ENVELOPE or containers > CONTAINERS:
            return False
    return True


def _pieces(body: bytes) -> Iterator[tuple[int, int]]:
    yield from ((start, start + PIECE) for start in range(0, len(body), PIECE))


def _outside_texts(body: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each part of the body that is between two JSON strings."""
    start = 0
    while (quote := body.find(b'"', start)) >= 0:
        yield start, quote
        start = _end_of_text(body, quote + 1)
    yield start, len(body)


def _end_of_text(body: bytes, start: int) -> int:
    """Index behind the closing quote of the string whose first character is at ``start``; the body's end if there is none."""
    at = start
    while (at := body.find(b'"', at)) >= 0:
        first = at
        while first > start and body[first - 1] == 0x5C:  # a backslash
            first -= 1
        at += 1
        if (at - 1 - first) % 2 == 0:  # each pair of backslashes is one character
            return at
    return len(body)
