"""Opaque positions of lists: a page continues behind the last entry of the one before."""

import base64
from typing import Annotated

import orjson
from fastapi import Query
from slipway_contract.errors import InvalidInput

PAGE = 50
MOST = 500
Limit = Annotated[int, Query(ge=1, le=MOST, description="maximum number of entries")]
Cursor = Annotated[
    str | None,
    Query(max_length=2000, description="`nextCursor` of the page before; default: the first page"),
]


def cursor_of(entry: int | str) -> str:
    """Return the position of an entry, by its number or name."""
    return encoded(orjson.dumps(entry))


def number_of(cursor: str) -> int:
    """Return the number in a cursor. Raises InvalidInput."""
    number = _entry(cursor)
    if type(number) is not int or not 0 < number < 2**31:
        raise invalid()
    return number


def name_of(cursor: str) -> str:
    """Return the name in a cursor. Raises InvalidInput."""
    name = _entry(cursor)
    if not isinstance(name, str) or "\0" in name:
        raise invalid()
    return name


def _entry(cursor: str) -> object:
    try:
        return orjson.loads(decoded(cursor))
    except orjson.JSONDecodeError:
        raise invalid() from None


def encoded(position: bytes) -> str:
    """Return a position as opaque text."""
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def decoded(cursor: str) -> bytes:
    """Return the position in a cursor. Raises InvalidInput."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except ValueError:  # also binascii.Error
        raise invalid() from None


def invalid() -> InvalidInput:
    """Return the error of a text that is no cursor of the list."""
    return InvalidInput("cursor", "is not the nextCursor of a list; omit it for the first page")
