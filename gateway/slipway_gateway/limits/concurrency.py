"""The limit on concurrent requests of one caller at this gateway."""

from slipway_gateway.errors import TooManyAtOnce


class Concurrency:
    """The number of concurrent requests by caller; callers without requests use no memory."""

    def __init__(self, per_caller: int) -> None:
        self._per_caller = per_caller
        self._active: dict[str, int] = {}

    def enter(self, caller: str) -> None:
        """Count the start of a request, which ``leave`` must follow. Raises TooManyAtOnce."""
        count = self._active.get(caller, 0)
        if count >= self._per_caller:
            detail = f"you have {count} concurrent requests, the maximum; wait until one ends"
            raise TooManyAtOnce("caller_requests", detail)
        self._active[caller] = count + 1

    def leave(self, caller: str) -> None:
        """Count the end of a request."""
        count = self._active[caller] - 1
        if count:
            self._active[caller] = count
        else:
            del self._active[caller]
