"""The response cache, by the version's digest and the request's content.

A caller's policy enables it. A promotion invalidates it implicitly, because another version has
another digest. On a miss the replica looks in Redis, if configured, where all replicas store their
entries.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from slipway_gateway.http.body import Body
from slipway_gateway.http.link import Answer
from slipway_gateway.inference.routing import Target
from slipway_gateway.redis import Redis
from slipway_gateway.threads import INLINE

OVERHEAD = 512
"""Bytes of memory per entry in addition to its text, so that short entries are bounded too."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """A hash of the request content that determines the response, and the request's V2 id."""

    key: bytes
    request_id: Any
    seconds: int
    """Maximum age of an entry."""

    @property
    def shared_key(self) -> str:
        """The key in Redis. Its number is the version of the value's format."""
        return f"slipway:answer:1:{self.key.hex()}"

    @classmethod
    def of(cls, target: Target, body: Body, seconds: int) -> "CacheKey | None":
        """Build the key of a request; return None when it bypasses the cache.

        These are bodies that are not a JSON object or too large to be parsed on the event loop, and
        all requests of a version whose runtime does not prove what it serves: another runtime may
        answer under the same digest.
        """
        if body.whole is None or len(body.whole) > INLINE or not target.traffic.verified:
            return None
        try:
            content = orjson.loads(body.whole)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(content, dict):
            return None
        request_id = content.pop("id", None)
        version = [target.traffic.service, target.digest, seconds]
        text = orjson.dumps([version, content], option=orjson.OPT_SORT_KEYS)
        return cls(hashlib.sha256(text).digest(), request_id, seconds)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A stored response of status 200."""

    text: bytes
    """JSON without the id."""
    content_type: str
    ends: float
    """Expiry by the monotonic clock."""

    def answer(self, request_id: Any) -> Answer:
        """Build the response to one request, with its V2 id."""
        named = b"" if request_id is None else b',"id":' + orjson.dumps(request_id)
        return Answer(200, self.content_type, self.text[:-1] + named + b"}", None)

    @property
    def size(self) -> int:
        """Approximate size in memory, in bytes."""
        return len(self.text) + len(self.content_type) + OVERHEAD

    @property
    def ttl(self) -> int:
        """Remaining lifetime in seconds."""
        return max(0, int(self.ends - time.monotonic()))

    def pack(self) -> bytes:
        """Encode the entry for other replicas: content type, newline, text."""
        return self.content_type.encode() + b"\n" + self.text

    @classmethod
    def unpack(cls, packed: bytes, ends: float) -> "CacheEntry":
        content_type, _, text = packed.partition(b"\n")
        return cls(text, content_type.decode(), ends)


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """A response and its origin."""

    answer: Answer
    status: bytes
    """Value of the header Cache-Status (RFC 9211)."""
    computed: bool
    """True when the predictor computed the response for this request."""


class ResponseCache:
    """An LRU cache bounded by bytes. Equal concurrent requests share one computation."""

    def __init__(self, limit: int, redis: Redis | None = None) -> None:
        self._limit = limit
        self._redis = redis
        self._size = 0
        self._entries: OrderedDict[bytes, CacheEntry] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[CacheEntry | None]] = {}

    async def find(
        self, cache_key: CacheKey | None, compute: Callable[[], Awaitable[Answer]]
    ) -> CacheLookup:
        """Return the cached response or else the response of ``compute``, a call of the predictor.

        Raises the errors of ``compute``.
        """
        if cache_key is None:
            return CacheLookup(await compute(), b"Slipway; fwd=bypass", computed=True)
        if entry := self._get(cache_key.key):
            return CacheLookup(
                entry.answer(cache_key.request_id),
                b"Slipway; hit; ttl=%d" % entry.ttl,
                computed=False,
            )
        while (pending := self._pending.get(cache_key.key)) is not None:
            if entry := await asyncio.shield(pending):
                return CacheLookup(
                    entry.answer(cache_key.request_id),
                    b"Slipway; fwd=miss; collapsed",
                    computed=False,
                )
        return await self._compute(cache_key, compute)

    async def _compute(
        self, cache_key: CacheKey, compute: Callable[[], Awaitable[Answer]]
    ) -> CacheLookup:
        entry = None
        pending = self._pending[cache_key.key] = asyncio.get_running_loop().create_future()
        try:
            if entry := await self._fetch_shared(cache_key):
                status = b"Slipway-Redis; hit; ttl=%d, Slipway; fwd=miss%s" % (
                    entry.ttl,
                    self._put(cache_key.key, entry),
                )
                return CacheLookup(entry.answer(cache_key.request_id), status, computed=False)
            answer = await compute()
            entry = _entry(answer, time.monotonic() + cache_key.seconds)
        finally:  # waiting requests compute their own response when the entry is None
            del self._pending[cache_key.key]
            pending.set_result(entry)
        if entry is None:
            return CacheLookup(answer, b"Slipway; fwd=miss", computed=True)
        own = b"Slipway; fwd=miss" + self._put(cache_key.key, entry)
        shared = (
            b"Slipway-Redis; fwd=miss; stored, " if await self._share(cache_key, entry) else b""
        )
        return CacheLookup(answer, shared + own, computed=True)

    async def _fetch_shared(self, cache_key: CacheKey) -> CacheEntry | None:
        """Return the entry that another replica stored in Redis."""
        found = await self._redis.get(cache_key.shared_key) if self._redis else None
        if found is None:
            return None
        seconds = min(found.seconds, cache_key.seconds)
        return CacheEntry.unpack(found.value, time.monotonic() + seconds)

    async def _share(self, cache_key: CacheKey, entry: CacheEntry) -> bool:
        return self._redis is not None and await self._redis.put(
            cache_key.shared_key, entry.pack(), cache_key.seconds
        )

    def _get(self, key: bytes) -> CacheEntry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if time.monotonic() >= entry.ends:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def _put(self, key: bytes, entry: CacheEntry) -> bytes:
        """Store an entry unless it exceeds the cache's size; return its part of Cache-Status."""
        if entry.size > self._limit:
            return b""
        self._drop(key)
        self._entries[key] = entry
        self._size += entry.size
        while self._size > self._limit:
            self._drop(next(iter(self._entries)))
        return b"; stored"

    def _drop(self, key: bytes) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self._size -= entry.size


def _entry(answer: Answer, ends: float) -> CacheEntry | None:
    """Build an entry of a response; return None for a failure or an incomplete body."""
    if answer.status != 200 or answer.rest is not None:
        return None
    try:
        content = orjson.loads(answer.head)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict) or "outputs" not in content:
        return None
    content.pop("id", None)
    return CacheEntry(orjson.dumps(content), answer.content_type, ends)
