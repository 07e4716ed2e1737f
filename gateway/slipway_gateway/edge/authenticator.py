"""Authentication: validation of tokens and accounts, with a limit on rejected tokens by address."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.rules import PUBLIC
from slipway_gateway.errors import TooMany, Unauthenticated
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.tokens import Tokens
from slipway_gateway.inference.exchange import Exchange
from slipway_gateway.limits.rates import Rates

REFUSED = ":refused"
"""Name of the bucket for rejected tokens; policy names contain no colon."""


class Authenticator:
    """Finds the caller of a request by its token; of a public route the caller may be None.

    It limits rejected tokens by client address, which is determined only for a token that is not
    cached.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        directory: Directory | None,
        rates: Rates,
        proxies: Networks,
        *,
        refused_per_minute: int | None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._directory = directory
        self._rates = rates
        self._proxies = proxies
        self._refused_per_minute = refused_per_minute

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        exchange: Exchange = scope["slipway.exchange"]
        rule = exchange.rule
        if rule.roles is not PUBLIC or (
            rule.optional_authentication and b"authorization" in exchange.headers
        ):
            return self._authenticated(exchange, scope, receive, send)
        return self._app(scope, receive, send)

    async def _authenticated(
        self, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Validate the token. Raises Unauthenticated, TooMany, Unavailable."""
        headers = exchange.headers

        def check_rate() -> None:
            if self._refused_per_minute and self._rates.is_empty(
                (client_address(scope, headers, self._proxies), REFUSED)
            ):
                raise TooMany("your address sent too many invalid tokens; retry later", 1, [])

        try:
            caller = await self._tokens.caller(headers.get(b"authorization"), check_rate)
        except Unauthenticated:
            if self._refused_per_minute and b"authorization" in headers:
                self._rates.take(
                    (client_address(scope, headers, self._proxies), REFUSED),
                    "refused tokens",
                    self._refused_per_minute,
                )
            raise
        if self._directory is not None:
            caller = self._directory.confirm(caller)
        exchange.caller = caller
        await self._app(scope, receive, send)
