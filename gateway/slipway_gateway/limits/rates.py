"""How fast one caller may go: token buckets, and the fields that tell of them
(draft-ietf-httpapi-ratelimit-headers-10).
"""

import math
import time
from collections.abc import Iterator

from slipway_gateway.errors import Headers, TooMany

Key = tuple[str, str]
"""A subject or an address, and which of its buckets."""


class Bucket:
    """Holds one minute's worth, and fills as steadily. ``level`` goes below zero when other
    replicas spent as well.
    """

    __slots__ = ("at", "level", "per_minute", "spent")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self.level = float(per_minute)
        self.at = now
        self.spent = 0
        """Taken since the other replicas were last told."""

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
"""Callers and addresses, about; beyond it the oldest buckets are forgotten."""


class Rates:
    """All buckets of this process; the full ones are forgotten, for a new one is full too."""

    def __init__(self) -> None:
        self._buckets: dict[Key, Bucket] = {}
        self._policies: dict[tuple[str, int], tuple[bytes, bytes]] = {}

    def take(self, key: Key, name: str, per_minute: int) -> Headers:
        """One out of the caller's bucket; gives the RateLimit fields. Raises TooMany when it is
        empty.

        ``name`` is what the caller reads: ``predictions``.
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
            raise TooMany(f"more than {per_minute} {name} a minute", wait, fields)
        return fields

    def is_empty(self, key: Key) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            return False
        bucket.fill(time.monotonic())
        return bucket.level < 1

    def spent(self) -> Iterator[tuple[Key, Bucket]]:
        """What the other replicas do not know yet."""
        return ((key, bucket) for key, bucket in self._buckets.items() if bucket.spent)

    def learn(self, key: Key, level: float, told: int) -> None:
        """The level over all replicas, of when they were told of ``told`` that were taken here."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.spent = max(0, bucket.spent - told)
            bucket.level, bucket.at = level - bucket.spent, time.monotonic()

    def forget(self) -> None:
        """Let go of buckets that are full and told of."""
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
        """``r``: what is left; ``t``: seconds until the whole of it is there again."""
        remaining, seconds = max(0, int(bucket.level)), bucket.seconds_until(bucket.per_minute)
        return f'"{name}";r={remaining};t={seconds}'.encode()
