"""Authorization: the role that a route requires, and the grant of the model in its path."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.rules import Rule
from slipway_gateway.edge.limiter import REQUESTS
from slipway_gateway.errors import Forbidden
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.inference.routing import Routes
from slipway_gateway.limits.rates import Rates
from slipway_gateway.telemetry.tracing import passed_on


class Authorizer:
    """Authorizes requests in memory, and stores their context in the scope.

    Only a route that requires a confirmed role waits for the identity provider.
    """

    def __init__(
        self,
        app: ASGIApp,
        directory: Directory | None,
        grants: GrantWatch,
        routes: Routes,
        rates: Rates,
        proxies: Networks,
        *,
        requests_per_minute: int,
    ) -> None:
        self._app = app
        self._directory = directory
        self._grants = grants
        self._routes = routes
        self._rates = rates
        self._requests_per_minute = requests_per_minute
        self._proxies = proxies

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        exchange: Exchange = scope["slipway.exchange"]
        caller, rule = exchange.caller, exchange.rule
        if caller is None:
            return self._app(scope, receive, send)
        decision = rule.decision(caller.roles)
        if decision is None:
            raise self._denied(caller, _lacks_role(rule, caller))
        if rule.confirmed and self._directory is not None:
            return self._confirmed(self._directory, caller, scope, receive, send)
        return self._authorized(caller, decision, scope, receive, send)

    def _authorized(
        self, caller: Caller, decision: str, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        exchange: Exchange = scope["slipway.exchange"]
        headers = exchange.headers
        protocol = "v2" if exchange.rule.path.startswith("/v2") else "v1"
        context = RequestContext(
            exchange.request_id, caller, decision, protocol, passed_on(headers)
        )
        if protocol == "v1":
            context.address = client_address(scope, headers, self._proxies)
        model = exchange.names.get("model")
        if model is not None:
            exists = model in self._routes.snapshot
            try:
                context.grant = self._grants.snapshot.get(
                    caller, model, context.arrived, exists=exists
                )
            except Forbidden as error:
                raise self._denied(caller, error) from None
        exchange.context = scope["slipway.state"].context = context
        return self._app(scope, receive, send)

    def _denied(self, caller: Caller, error: Forbidden) -> Forbidden:
        """Count a denied request against the caller's rate; return its error. Raises TooMany."""
        self._rates.take((caller.subject, REQUESTS), "requests", self._requests_per_minute)
        return error

    async def _confirmed(
        self, directory: Directory, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Continue after the identity provider has confirmed a sufficient role.

        Raises Unauthenticated, Forbidden, Unavailable.
        """
        rule = scope["slipway.exchange"].rule
        try:
            caller = await directory.confirm_now(caller)
        except Forbidden as error:
            raise self._denied(caller, error) from None
        decision = rule.decision(caller.roles)
        if decision is None:
            needed = " or ".join(sorted(rule.roles or ()))
            confirmed = ", ".join(sorted(caller.roles)) or "none"
            problem = (
                f"this requires the role {needed}; the identity provider confirms {confirmed} for "
                f"{caller.account}"
            )
            raise self._denied(caller, Forbidden(problem))
        await self._authorized(caller, decision, scope, receive, send)


def _lacks_role(rule: Rule, caller: Caller) -> Forbidden:
    needed = " or ".join(sorted(rule.roles or ()))
    if caller.withdrawn:
        groups = ", ".join(caller.withdrawn)[:200]
        return Forbidden(
            f"this requires the role {needed}; the identity provider does not list "
            f"{caller.account} in the groups {groups} of the token"
        )
    found = ", ".join(caller.groups[:5]) + (", …" if len(caller.groups) > 5 else "")
    return Forbidden(
        f"this requires the role {needed}; your token has "
        f"{', '.join(sorted(caller.roles)) or 'none'}. "
        f"Roles are read from the token's claim {caller.claim.path}, which contains "
        f"{found[:200] or 'no group'}"
    )
