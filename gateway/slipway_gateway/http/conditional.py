"""Conditional reads (RFC 9110): a caller that has the current state gets 304 without a body."""

import hashlib
from typing import Annotated, Any

from fastapi import Header, Response

from slipway_gateway.http.schema import Schema

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match",
        max_length=1000,
        description="`ETag` of an earlier response; 304 while it is the current one",
    ),
]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not Modified"}}


def conditional(content: Schema, if_none_match: str | None) -> Response:
    """Return the content as JSON with its ``ETag``, or 304 when the caller has it.

    The tag is weak: it is that of a description, and no precondition of a change.
    """
    body = content.model_dump_json(by_alias=True).encode()
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"etag": tag}
    if tag in [each.strip() for each in (if_none_match or "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
