"""Authentication: validation of tokens and accounts, with a limit on rejected tokens by address."""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.rules import PUBLIC
from slipway_gateway.errors import TooMany, Unauthenticated
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.tokens import Caller, Tokens
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
        authorization = exchange.headers.get(b"authorization")
        if exchange.rule.roles is PUBLIC and not (
            exchange.rule.optional_authentication and authorization is not None
        ):
            return self._app(scope, receive, send)
        if authorization is None:
            raise Unauthenticated(
                "the request has no token; send an Authorization header with Bearer and an access "
                "token"
            )
        caller = self._tokens.cached(authorization)
        if caller is None:
            return self._validated(authorization, scope, receive, send)
        return self._identified(caller, scope, receive, send)

    async def _validated(
        self, authorization: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Validate the token. Raises Unauthenticated, TooMany, Unavailable."""
        address = client_address(scope, scope["slipway.exchange"].headers, self._proxies)
        bucket, limit = (address, REFUSED), self._refused_per_minute
        if limit and self._rates.is_empty(bucket):
            raise TooMany("your address sent too many invalid tokens; retry later", 1, [])
        try:
            caller = await self._tokens.caller(authorization)
        except Unauthenticated:
            if limit:
                self._rates.take(bucket, "refused tokens", limit)
            raise
        await self._identified(caller, scope, receive, send)

    def _identified(
        self, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Continue with the caller, if the identity provider has the account."""
        exchange: Exchange = scope["slipway.exchange"]
        exchange.caller = caller if self._directory is None else self._directory.confirm(caller)
        return self._app(scope, receive, send)
