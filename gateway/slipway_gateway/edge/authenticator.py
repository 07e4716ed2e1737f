"""Authentication: validation of tokens and accounts, with a limit on rejected tokens by address."""

from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_gateway.access.rules import PUBLIC, Rule
from slipway_gateway.errors import TooMany, Unauthenticated
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.directory import Directory
from slipway_gateway.identity.tokens import Caller, Tokens
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule: Rule = scope["slipway.rule"]
        headers: dict[bytes, bytes] = scope["slipway.headers"]
        if rule.roles is not PUBLIC or (
            rule.optional_authentication and b"authorization" in headers
        ):
            scope["slipway.caller"] = await self._caller(scope, headers)
        else:
            scope["slipway.caller"] = None
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller:
        """Return the caller of a request. Raises Unauthenticated, TooMany, Unavailable."""

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
        return caller if self._directory is None else self._directory.confirm(caller)
