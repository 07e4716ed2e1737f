"""An adapter of redis-py for expiring values that replicas share, in Redis or Valkey.

It fails softly: callers get a miss when Redis is unavailable. redis-py takes 23 MiB; it is imported
with the first connection pool, so that gateways without Redis save them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

log = logging.getLogger(__name__)

CONNECTIONS = 16
"""Maximum number of connections of a gateway; further calls wait for one within their timeout."""
VALUE_LIMIT = 2**18
"""Maximum size of a value in bytes; a larger one would delay the smaller ones."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CachedValue:
    """A value and its remaining lifetime in seconds."""

    value: bytes
    seconds: float


class Redis:
    """A Redis client with a circuit breaker.

    No call raises or takes longer than ``seconds``. After a failure all calls return a miss for
    ``rest_seconds``; then one call probes Redis.
    """

    def __init__(
        self, url: str, password: str | None, *, seconds: float, rest_seconds: float
    ) -> None:
        """Create a client of ``url``, which is ``redis://``, ``rediss://`` or ``unix://``.

        A password in the URL takes precedence over ``password``.
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
            timeout=None,  # _try has one timeout for the whole call
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
        """True from a failed call until the next successful one."""
        return self._is_away

    async def get(self, key: str) -> CachedValue | None:
        """Return the value of a key; None when it is missing or Redis is unavailable."""

        async def read() -> tuple[bytes | None, int]:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(key)
                pipeline.pttl(key)
                value, milliseconds = await pipeline.execute()
                return value, milliseconds

        value, milliseconds = await self._try(read) or (None, 0)
        if value is None or milliseconds <= 0:
            return None
        return CachedValue(value, milliseconds / 1000)

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Store a value for ``seconds``; return True on success."""
        if len(value) > VALUE_LIMIT:
            return False

        async def write() -> bool:
            return bool(await self._client.set(key, value, px=max(1, int(seconds * 1000))))

        return await self._try(write) or False

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T | None:
        is_probe = self._is_away
        if is_probe:
            if time.monotonic() < self._next_try:
                return None
            self._next_try = time.monotonic() + self._rest_seconds  # one probe at a time
        try:
            async with asyncio.timeout(self._seconds):
                result = await call()
        except self._failures as error:
            self._rest(str(error) or f"no response within {self._seconds:g} s")
            return None
        if is_probe:  # a call from before the failure proves nothing
            self._is_away = False
            log.info("Redis answers again; answers are shared")
        return result

    def _rest(self, reason: str) -> None:
        self._next_try = time.monotonic() + self._rest_seconds
        if not self._is_away:
            self._is_away = True
            log.warning("Redis does not answer, answers are not shared: %s", reason)
