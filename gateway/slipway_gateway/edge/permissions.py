"""The middleware that finds the access rule of a request and rejects all other requests."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.rules import AccessTable
from slipway_gateway.inference.exchange import Exchange


class Permissions:
    """Finds the route of a request in the access table: deny by default."""

    def __init__(self, app: ASGIApp, table: AccessTable) -> None:
        self._app = app
        self._table = table

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        rule, names = self._table.match(scope["method"], scope["path"])
        scope["slipway.route"] = rule.path
        scope["slipway.exchange"] = Exchange(
            scope["slipway.request_id"], rule, names, dict(scope["headers"]), receive, send
        )
        return self._app(scope, receive, send)
