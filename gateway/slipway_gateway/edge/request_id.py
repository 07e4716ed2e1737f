"""The first middleware: the request id, and the headers that every response has."""

from slipway_contract.log import request_id as log_request_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_gateway.access.context import RequestContext
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        request_id = new_id()
        log_request_id.set(request_id)
        scope["slipway.request_id"] = request_id
        scope["slipway.responded"] = False
        scope["slipway.context"] = None
        is_head = scope["method"] == "HEAD"

        async def decorated(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope["slipway.responded"] = True
                context: RequestContext | None = scope["slipway.context"]
                headers = [(b"x-request-id", request_id.encode()), *message.get("headers", ())]
                if context is not None:
                    headers += context.headers
                if not scope["path"].startswith("/v2") and all(
                    name != b"cache-control" for name, _ in headers
                ):
                    headers.append(NO_STORE)
                if self._drain.closing:
                    headers.append(LAST)
                message["headers"] = headers
            elif is_head:
                message = {**message, "body": b""}
            await send(message)

        await self._app(scope, receive, decorated)
