"""The directory of accounts, as far as authentication needs it; people/ has the one over SCIM."""

from typing import Protocol

from slipway_gateway.identity.tokens import Caller


class Directory(Protocol):
    """The accounts and groups of the identity provider."""

    problem: str | None
    """Error of the last read; None after a successful one."""

    @property
    def known(self) -> bool:
        """Whether the accounts were read at least once."""

    def confirm(self, caller: Caller) -> Caller:
        """Return the caller restricted to the groups of the last read.

        Raises Unauthenticated, Unavailable.
        """

    async def confirm_now(self, caller: Caller) -> Caller:
        """Return the caller restricted to the groups that the provider confirms now.

        Raises Unauthenticated, Forbidden, Unavailable.
        """
