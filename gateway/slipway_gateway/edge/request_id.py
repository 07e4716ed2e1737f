"""The first middleware: the request id, and the headers that every response has.

A middleware without work after the response returns the awaitable of the next one: a coroutine
of its own would cost each request more than its work.
"""

from collections.abc import Awaitable

from slipway_contract.log import request_id as log_request_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_gateway.access.context import ResponseState
from slipway_gateway.edge.drain import DrainState
from slipway_gateway.requestid import new_id

NO_STORE = (b"cache-control", b"no-store")
LAST = (b"connection", b"close")


class RequestId:
    """Assigns the id of a request and decorates its response.

    The response has the id, the headers of the request's context such as the RateLimit fields,
    and no content after HEAD. Outside of V2 it is not stored by caches unless it allows that.
    """

    def __init__(self, app: ASGIApp, lifespan: ASGIApp, drain: DrainState) -> None:
        """Wrap ``app``; ``lifespan`` gets the lifespan events, which pass no other middleware."""
        self._app = app
        self._lifespan = lifespan
        self._drain = drain

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._lifespan(scope, receive, send)
        request_id = new_id()
        log_request_id.set(request_id)
        scope["slipway.request_id"] = request_id
        state = scope["slipway.state"] = ResponseState()
        id_header, drain = (b"x-request-id", request_id.encode()), self._drain
        is_head, is_v2 = scope["method"] == "HEAD", scope["path"].startswith("/v2")

        def decorated(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                state.has_started = True
                granted = () if state.context is None else state.context.headers
                headers = [id_header, *message.get("headers", ()), *granted]
                if not is_v2 and all(name != b"cache-control" for name, _ in headers):
                    headers.append(NO_STORE)
                if drain.closing:
                    headers.append(LAST)
                message["headers"] = headers
            elif is_head:
                message = {**message, "body": b""}
            return send(message)

        return self._app(scope, receive, decorated)
