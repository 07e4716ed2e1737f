"""Authorization: the role that a route requires, and the grant of the model in its path."""

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.context import RequestContext
from slipway_gateway.access.grantwatch import GrantWatch
from slipway_gateway.access.rules import Rule
from slipway_gateway.errors import Forbidden
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.tokens import Caller
from slipway_gateway.inference.routing import Routes
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
        proxies: Networks,
    ) -> None:
        self._app = app
        self._directory = directory
        self._grants = grants
        self._routes = routes
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope["slipway.caller"]
        if caller is not None:
            rule: Rule = scope["slipway.rule"]
            decision = rule.decision(caller.roles)
            if decision is None:
                raise _lacks_role(rule, caller)
            if rule.confirmed and self._directory is not None:
                caller = await self._confirmed(self._directory, rule, caller)
            headers = scope["slipway.headers"]
            protocol = "v2" if rule.path.startswith("/v2") else "v1"
            context = RequestContext(
                scope["slipway.request_id"], caller, decision, protocol, passed_on(headers)
            )
            if protocol == "v1":
                context.address = client_address(scope, headers, self._proxies)
            model = scope["slipway.names"].get("model")
            if model is not None:
                exists = model in self._routes.snapshot
                context.grant = self._grants.snapshot.get(
                    caller, model, context.arrived, exists=exists
                )
            scope["slipway.context"] = context
        await self._app(scope, receive, send)

    async def _confirmed(self, directory: Directory, rule: Rule, caller: Caller) -> Caller:
        """Return the caller after the identity provider has confirmed a sufficient role.

        Raises Unauthenticated, Forbidden, Unavailable.
        """
        caller = await directory.confirm_now(caller)
        if rule.decision(caller.roles) is None:
            needed = " or ".join(sorted(rule.roles or ()))
            confirmed = ", ".join(sorted(caller.roles)) or "none"
            raise Forbidden(
                f"this requires the role {needed}; the identity provider confirms {confirmed} for "
                f"{caller.account}"
            )
        return caller


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
