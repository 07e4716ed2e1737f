"""Memory for the bodies of requests: one budget of the process, and a part of it for each
caller.
"""

from slipway_gateway.errors import NoMemory, TooManyAtOnce

SMALL = 2**16
"""Bytes up to which a body may take the last quarter of the budget, so that large bodies never shut
out small ones.
"""


class BodyBudget:
    """Bytes of bodies in memory: what connections have received and nobody has read yet, and what
    requests hold.

    Used by the event loop's thread alone.
    """

    def __init__(self, total: int, per_caller: int) -> None:
        self._total = total
        self._per_caller = per_caller
        self._by_caller: dict[str, int] = {}
        self.used = 0
        """Bytes that are in memory now."""

    def take(self, count: int, *, small: bool = True) -> None:
        """Raises NoMemory."""
        if self.used + count > (self._total if small else self._total * 3 // 4):
            raise NoMemory(
                "the bodies of all requests under way take all memory that there is for them"
            )
        self.used += count

    def give_back(self, count: int) -> None:
        self.used -= count

    def share(self, caller: str | None, declared: int) -> "BodyShare":
        """The part of one request, whose Content-Length is ``declared``. None: of no caller in
        particular.
        """
        return BodyShare(self, caller, declared)

    def reserve(self, caller: str, count: int) -> None:
        """Raises TooManyAtOnce."""
        reserved = self._by_caller.get(caller, 0) + count
        if reserved > self._per_caller:
            detail = (
                f"the bodies of your requests under way would be more than {self._per_caller} "
                "bytes; wait for one to end"
            )
            raise TooManyAtOnce("caller_bodies", detail)
        self._by_caller[caller] = reserved

    def release(self, caller: str, count: int) -> None:
        left = self._by_caller.get(caller, 0) - count
        if left > 0:
            self._by_caller[caller] = left
        else:
            self._by_caller.pop(caller, None)


class BodyShare:
    """What one request holds until ``release``.

    Of the caller's part it reserves what is declared before a byte is read, so that the first of
    several large bodies are read to their ends and the others refused at once. Of the process's
    budget it takes what has arrived: nobody takes it by a promise.
    """

    __slots__ = ("_budget", "_caller", "_declared", "_reserved", "_taken")

    def __init__(self, budget: BodyBudget, caller: str | None, declared: int) -> None:
        self._budget = budget
        self._caller = caller
        self._declared = declared
        self._reserved = 0
        self._taken = 0

    def expect(self) -> None:
        """The body is about to be read. Raises TooManyAtOnce."""
        self.reserve(self._declared)

    def take(self, count: int) -> None:
        """So much more of the body is held. Raises TooManyAtOnce, NoMemory."""
        self.reserve(self._taken + count)
        self._budget.take(count, small=self._taken + count <= SMALL)
        self._taken += count

    def reserve(self, size: int) -> None:
        """So much of the body has arrived, also if it was passed on: a predictor holds it. Raises
        TooManyAtOnce.
        """
        if self._caller is not None and size > self._reserved:
            self._budget.reserve(self._caller, size - self._reserved)
            self._reserved = size

    def release(self) -> None:
        """At the end of the request."""
        self._budget.give_back(self._taken)
        if self._caller is not None and self._reserved:
            self._budget.release(self._caller, self._reserved)
        self._taken = self._reserved = 0
