"""The middleware that finds the access rule of a request and rejects all other requests."""

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.rules import AccessTable


class Permissions:
    """Finds the route of a request in the access table: deny by default."""

    def __init__(self, app: ASGIApp, table: AccessTable) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule, scope["slipway.names"] = self._table.match(scope["method"], scope["path"])
        scope["slipway.rule"] = rule
        scope["slipway.route"] = rule.path
        scope["slipway.headers"] = dict(scope["headers"])
        await self._app(scope, receive, send)
