"""Opaque positions of lists: a page continues behind the last entry of the one before."""

import base64
import binascii
from typing import Annotated

import orjson
from fastapi import Query
from slipway_contract.errors import InvalidInput

PAGE = 50
MOST = 500
Limit = Annotated[int, Query(ge=1, le=MOST, description="maximum number of entries")]
Cursor = Annotated[
    str | None,
    Query(max_length=200, description="`nextCursor` of the page before; default: the first page"),
]


def cursor_of(number: int) -> str:
    """Return the position of an entry, by its number."""
    return base64.urlsafe_b64encode(orjson.dumps(number)).decode().rstrip("=")


def number_of(cursor: str) -> int:
    """Return the number in a cursor. Raises InvalidInput."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        number = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        number = None
    if type(number) is not int or not 0 < number < 2**31:
        raise InvalidInput("cursor", "is not the nextCursor of a list; omit it for the first page")
    return number
