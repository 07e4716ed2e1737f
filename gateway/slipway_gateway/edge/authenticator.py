"""Authentication: validation of tokens and accounts, with a limit on rejected tokens by address."""

from collections.abc import MutableMapping
from typing import Any

from slipway_gateway.errors import TooMany, Unauthenticated
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.tokens import Caller, Tokens
from slipway_gateway.limits.rates import Rates
from slipway_gateway.people.accounts import Accounts

REFUSED = ":refused"
"""Name of the bucket for rejected tokens; policy names contain no colon."""


class Authenticator:
    """Validates tokens and limits rejected tokens by client address.

    The address is determined only for a token that is not cached.
    """

    def __init__(
        self,
        tokens: Tokens,
        accounts: Accounts | None,
        rates: Rates,
        proxies: Networks,
        *,
        refused_per_minute: int | None,
    ) -> None:
        self._tokens = tokens
        self._accounts = accounts
        self._rates = rates
        self._proxies = proxies
        self._refused_per_minute = refused_per_minute

    def address(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> str:
        return client_address(scope, headers, self._proxies)

    async def caller(self, scope: MutableMapping[str, Any], headers: dict[bytes, bytes]) -> Caller:
        """Return the caller of a request. Raises Unauthenticated, TooMany, Unavailable."""

        def check_rate() -> None:
            if self._refused_per_minute and self._rates.is_empty(
                (self.address(scope, headers), REFUSED)
            ):
                raise TooMany("your address sent too many invalid tokens; retry later", 1, [])

        try:
            caller = await self._tokens.caller(headers.get(b"authorization"), check_rate)
        except Unauthenticated:
            if self._refused_per_minute and b"authorization" in headers:
                self._rates.take(
                    (self.address(scope, headers), REFUSED),
                    "refused tokens",
                    self._refused_per_minute,
                )
            raise
        return caller if self._accounts is None else self._accounts.confirm(caller)

    async def confirm_now(self, caller: Caller) -> Caller:
        """Return the caller with the groups that the identity provider confirms now.

        Raises Unauthenticated, Forbidden, Unavailable.
        """
        return caller if self._accounts is None else await self._accounts.confirm_now(caller)
