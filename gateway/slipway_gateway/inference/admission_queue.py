"""How many requests a predictor has at a time, and who waits: better some are refused at once than
all are answered late.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from slipway_gateway.errors import Unavailable


@dataclass(frozen=True)
class Bounds:
    """Of the line before one predictor."""

    concurrency: int
    """Requests under way at one of its pods."""
    length: int
    """Requests that wait."""
    seconds: float
    """Time that one waits."""


class AdmissionQueue:
    """Before one predictor, which may have several pods. First come, first served; used by the
    event loop's thread alone.
    """

    __slots__ = ("_bounds", "_room", "_under_way", "_waiting")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._room = bounds.concurrency
        self._under_way = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Nobody is under way; then nobody waits either."""
        return not self._under_way

    async def enter(self, pods: int) -> None:
        """Return when there is room; then ``leave`` has to follow. Raises Unavailable: the line is
        full, or too slow.
        """
        self._room = self._bounds.concurrency * pods
        if self._under_way < self._room and not self._waiting:
            self._under_way += 1
            return
        if len(self._waiting) >= self._bounds.length:
            raise Unavailable("the model has more requests than it can answer", retry_after=1)
        await self._wait()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        end = loop.call_later(self._bounds.seconds, self._give_up, turn)
        try:
            if not await turn:
                raise Unavailable(
                    "the model has more requests than it can answer in time", retry_after=1
                )
        except asyncio.CancelledError:
            self._give_up(turn)
            if not turn.cancelled() and turn.result():  # it was just let in
                self.leave()
            raise
        finally:
            end.cancel()

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        if not turn.done():
            turn.set_result(False)

    def leave(self) -> None:
        """Whoever was let in is done: the next may enter."""
        self._under_way -= 1
        while self._waiting and self._under_way < self._room:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(True)
