"""The door to redis-py: values that replicas share for a time, in Redis or Valkey. Whoever asks
gets on without it.

redis-py is imported with the first connection pool: its 23 MiB are nothing for a gateway that has
no Redis.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

log = logging.getLogger(__name__)

CONNECTIONS = 16
"""Of one gateway; who comes beyond them waits for one, within the same time limit."""
VALUE_LIMIT = 2**18
"""Bytes; a larger value would hold up the smaller ones."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachedValue:
    """A value, and for how many seconds it still lives."""

    value: bytes
    seconds: float


class Redis:
    """No call raises, and none takes longer than ``seconds``. After one that fails there is none
    for ``rest_seconds``; then one tries.
    """

    def __init__(
        self, url: str, password: str | None, *, seconds: float, rest_seconds: float
    ) -> None:
        """``url`` as redis-py reads it: ``redis://``, ``rediss://`` or ``unix://``; a password in
        it goes first.
        """
        from redis.asyncio import BlockingConnectionPool
        from redis.asyncio import Redis as Client
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._failures = (RedisError, OSError)  # a TimeoutError is an OSError
        pool = BlockingConnectionPool.from_url(
            url,
            password=password,
            max_connections=CONNECTIONS,
            timeout=None,  # one time limit for all of a call stands in _tried
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._client = Client.from_pool(pool)
        self._seconds = seconds
        self._rest_seconds = rest_seconds
        self._is_away = False
        self._next_try = 0.0

    @property
    def is_away(self) -> bool:
        """It failed, and has not answered since."""
        return self._is_away

    async def get(self, key: str) -> CachedValue | None:
        """None when there is none, or nobody to ask."""

        async def ask() -> tuple[bytes | None, int]:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(key)
                pipeline.pttl(key)
                value, milliseconds = await pipeline.execute()
                return value, milliseconds

        value, milliseconds = await self._tried(ask) or (None, 0)
        return (
            CachedValue(value, milliseconds / 1000)
            if value is not None and milliseconds > 0
            else None
        )

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Whether it is there now."""
        if len(value) > VALUE_LIMIT:
            return False

        async def tell() -> bool:
            return bool(await self._client.set(key, value, px=max(1, int(seconds * 1000))))

        return await self._tried(tell) or False

    async def close(self) -> None:
        await self._client.aclose()

    async def _tried(self, context: Callable[[], Awaitable[T]]) -> T | None:
        is_try = self._is_away
        if is_try:
            if time.monotonic() < self._next_try:
                return None
            self._next_try = time.monotonic() + self._rest_seconds  # no other tries meanwhile
        try:
            async with asyncio.timeout(self._seconds):
                answer = await context()
        except self._failures as error:
            self._rest(str(error) or f"nothing was heard for {self._seconds:g} s")
            return None
        if is_try:  # an answer to a call from before it failed says nothing
            self._is_away = False
            log.info("Redis answers again; answers are shared")
        return answer

    def _rest(self, reason: str) -> None:
        self._next_try = time.monotonic() + self._rest_seconds
        if not self._is_away:
            self._is_away = True
            log.warning("Redis does not answer, answers are not shared: %s", reason)
