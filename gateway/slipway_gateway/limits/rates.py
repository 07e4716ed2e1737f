"""Rate limits: token buckets and RateLimit fields (draft-ietf-httpapi-ratelimit-headers-10)."""

import math
import time
from collections.abc import Iterator

from slipway_gateway.errors import Headers, TooMany

Key = tuple[str, str]
"""A subject or address, and the name of one of its buckets."""


class Bucket:
    """A token bucket with the capacity of one minute.

    ``level`` is negative after other replicas have taken more than was left.
    """

    __slots__ = ("at", "level", "per_minute", "spent")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.at = now
        self.spent = 0
        """Tokens taken since the last synchronization with the other replicas."""

    def fill(self, now: float) -> None:
        self.level = min(self.per_minute, self.level + (now - self.at) * self.per_minute / 60)
        self.at = now

    def take(self, now: float) -> bool:
        self.fill(now)
        if self.level < 1:
            return False
        self.level -= 1
        self.spent += 1
        return True

    def seconds_until(self, level: float) -> int:
        return max(0, math.ceil((level - self.level) * 60 / self.per_minute))


MAX_BUCKETS = 50_000
"""Maximum number of buckets; above it the oldest is removed."""


class Rates:
    """All buckets of this process. A full bucket may be removed, because a new one is full too."""

    def __init__(self) -> None:
        self._buckets: dict[Key, Bucket] = {}
        self._policies: dict[tuple[str, int], tuple[bytes, bytes]] = {}

    def take(self, key: Key, name: str, per_minute: int) -> Headers:
        """Take one token and return the RateLimit fields. Raises TooMany if the bucket is empty.

        ``name`` is the name of the limit in the fields, such as ``predictions``.
        """
        now = time.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None or bucket.per_minute != per_minute:
            if len(self._buckets) >= MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key] = Bucket(per_minute, now)
        taken = bucket.take(now)
        fields = [self._policy(name, per_minute), (b"ratelimit", self._state(name, bucket))]
        if not taken:
            wait = max(1, bucket.seconds_until(1))
            raise TooMany(f"the limit of {per_minute} {name} a minute is exceeded", wait, fields)
        return fields

    def is_empty(self, key: Key) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            return False
        bucket.fill(time.monotonic())
        return bucket.level < 1

    def spent(self) -> Iterator[tuple[Key, Bucket]]:
        """Yield the buckets with tokens taken since the last synchronization."""
        return ((key, bucket) for key, bucket in self._buckets.items() if bucket.spent)

    def synchronize(self, key: Key, level: float, shared: int) -> None:
        """Set the level over all replicas, which includes ``shared`` tokens taken here."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.spent = max(0, bucket.spent - shared)
            bucket.level, bucket.at = level - bucket.spent, time.monotonic()

    def remove_full(self) -> None:
        """Remove full buckets without unsynchronized tokens."""
        now = time.monotonic()
        for key, bucket in list(self._buckets.items()):
            bucket.fill(now)
            if bucket.level >= bucket.per_minute and not bucket.spent:
                del self._buckets[key]

    def _policy(self, name: str, per_minute: int) -> tuple[bytes, bytes]:
        known = self._policies.get((name, per_minute))
        if known is None:
            known = self._policies[name, per_minute] = (
                b"ratelimit-policy",
                f'"{name}";q={per_minute};w=60'.encode(),
            )
        return known

    @staticmethod
    def _state(name: str, bucket: Bucket) -> bytes:
        """Return the RateLimit field: ``r`` tokens are left, full again after ``t`` seconds."""
        remaining, seconds = max(0, int(bucket.level)), bucket.seconds_until(bucket.per_minute)
        return f'"{name}";r={remaining};t={seconds}'.encode()
