"""A concurrency limiter and queue for the requests to one predictor.

It rejects some requests immediately instead of answering all of them late.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from slipway_gateway.errors import Unavailable


@dataclass(frozen=True)
class Bounds:
    """Limits of the queue of one predictor."""

    concurrency: int
    """Maximum number of concurrent requests per pod."""
    length: int
    """Maximum number of waiting requests."""
    seconds: float
    """Maximum waiting time of a request, in seconds."""


class AdmissionQueue:
    """A first-in, first-out queue of one predictor, which may have several pods.

    It is not thread-safe: only the event loop's thread may use it.
    """

    __slots__ = ("_bounds", "_room", "_under_way", "_waiting")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._room = bounds.concurrency
        self._under_way = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        """Return the number of waiting requests."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """True when no request is running; then no request waits either."""
        return not self._under_way

    async def enter(self, pods: int) -> None:
        """Wait for a free slot at one of ``pods`` pods; the caller must call ``leave`` afterwards.

        Raises Unavailable when the queue is full or the waiting time has passed.
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
            if not turn.cancelled() and turn.result():  # admitted in the same moment
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
        """Release a slot and admit the next waiting request."""
        self._under_way -= 1
        while self._waiting and self._under_way < self._room:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(True)
