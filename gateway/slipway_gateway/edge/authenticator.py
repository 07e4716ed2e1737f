"""Who calls: by the token of an account that is still there; who sends bad ones all the time is not
listened to for a while.
"""

from collections.abc import MutableMapping
from typing import Any

from slipway_gateway.errors import TooMany, Unauthenticated
from slipway_gateway.http.addresses import Networks, client_address
from slipway_gateway.identity.tokens import Caller, Tokens
from slipway_gateway.limits.rates import Rates
from slipway_gateway.people.accounts import Accounts

REFUSED = ":refused"
"""No policy's name has a colon."""


class Authenticator:
    """Tokens, and the rate of bad ones by address. Known callers are never asked whence they
    come.
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
        """Raises Unauthenticated, TooMany, Unavailable."""

        def is_tolerable() -> None:
            if self._refused_per_minute and self._rates.is_empty(
                (self.address(scope, headers), REFUSED)
            ):
                raise TooMany("too many bad tokens came from your address", 1, [])

        try:
            caller = await self._tokens.caller(headers.get(b"authorization"), is_tolerable)
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
        """The caller as the identity provider knows them at this moment. Raises Unauthenticated,
        Forbidden, Unavailable.
        """
        return caller if self._accounts is None else await self._accounts.confirm_now(caller)
