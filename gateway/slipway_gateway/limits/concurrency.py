"""How many requests of one caller are under way at this gateway."""

from slipway_gateway.errors import TooManyAtOnce


class Concurrency:
    """Counts by caller; a caller without a request leaves nothing behind."""

    def __init__(self, per_caller: int) -> None:
        self._per_caller = per_caller
        self._under_way: dict[str, int] = {}

    def enter(self, caller: str) -> None:
        """A request begins; ``leave`` has to follow. Raises TooManyAtOnce."""
        count = self._under_way.get(caller, 0)
        if count >= self._per_caller:
            detail = (
                f"you have {count} requests under way, as many as one caller may have; wait for "
                "one to end"
            )
            raise TooManyAtOnce("caller_requests", detail)
        self._under_way[caller] = count + 1

    def leave(self, caller: str) -> None:
        """A request has ended."""
        count = self._under_way[caller] - 1
        if count:
            self._under_way[caller] = count
        else:
            del self._under_way[caller]
