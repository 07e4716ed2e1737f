"""What every route under ``/v1`` has: the call that the door let in, and the problems that it may
answer.
"""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request

from slipway_gateway.access.context import RequestContext
from slipway_gateway.control.schemas import Problem


def current_call(request: Request) -> RequestContext:
    """What the door found out about this request."""
    context: RequestContext = request.scope["slipway.context"]
    return context


CurrentCall = Annotated[RequestContext, Depends(current_call)]
STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 504)
_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema(by_alias=True)}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM} for status in STATUSES
}
