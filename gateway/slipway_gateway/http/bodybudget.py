"""The memory budget for request bodies, per process and per caller."""

from slipway_gateway.errors import NoMemory, TooManyAtOnce

SMALL = 2**16
"""Maximum size of a body that may use the last quarter of the budget, which is reserved for small
bodies.
"""


class BodyBudget:
    """The bytes of bodies in memory: received and unread ones, and those that requests hold.

    Only the event loop's thread may use it.
    """

    def __init__(self, total: int, per_caller: int) -> None:
        self._total = total
        self._per_caller = per_caller
        self._by_caller: dict[str, int] = {}
        self.used = 0
        """Bytes in memory."""

    def take(self, count: int, *, small: bool = True) -> None:
        """Allocate ``count`` bytes of the process's budget. Raises NoMemory."""
        if self.used + count > (self._total if small else self._total * 3 // 4):
            raise NoMemory("the bodies of all active requests take all memory for bodies")
        self.used += count

    def give_back(self, count: int) -> None:
        self.used -= count

    def share(self, caller: str | None, declared: int) -> "BodyShare":
        """Create the share of one request with a Content-Length of ``declared``.

        Without a ``caller`` only the process's budget applies.
        """
        return BodyShare(self, caller, declared)

    def reserve(self, caller: str, count: int) -> None:
        """Reserve ``count`` bytes of the caller's budget. Raises TooManyAtOnce."""
        reserved = self._by_caller.get(caller, 0) + count
        if reserved > self._per_caller:
            detail = (
                f"the bodies of your concurrent requests have more than {self._per_caller} bytes; "
                "wait for one to end"
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
    """The memory that one request holds until ``release``.

    It reserves the declared length from the caller's budget before the first byte is read, so that
    the first of several large bodies complete and the others are rejected immediately. It takes
    only received bytes from the process's budget, so that a declaration alone cannot exhaust it.
    """

    __slots__ = ("_budget", "_caller", "_declared", "_reserved", "_taken")

    def __init__(self, budget: BodyBudget, caller: str | None, declared: int) -> None:
        self._budget = budget
        self._caller = caller
        self._declared = declared
        self._reserved = 0
        self._taken = 0

    def expect(self) -> None:
        """Reserve the declared length before the body is read. Raises TooManyAtOnce."""
        self.reserve(self._declared)

    def take(self, count: int) -> None:
        """Account for ``count`` more buffered bytes. Raises TooManyAtOnce, NoMemory."""
        self.reserve(self._taken + count)
        self._budget.take(count, small=self._taken + count <= SMALL)
        self._taken += count

    def reserve(self, size: int) -> None:
        """Reserve a total of ``size`` received bytes, including those streamed to a predictor.

        Raises TooManyAtOnce.
        """
        if self._caller is not None and size > self._reserved:
            self._budget.reserve(self._caller, size - self._reserved)
            self._reserved = size

    def release(self) -> None:
        """Release all of it at the end of the request."""
        self._budget.give_back(self._taken)
        if self._caller is not None and self._reserved:
            self._budget.release(self._caller, self._reserved)
        self._taken = self._reserved = 0
