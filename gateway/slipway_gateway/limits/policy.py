"""Policies: the quotas, rate, priority and caching that a grant gives for a model."""

from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """Priority in the admission and task queues."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of grantees for a model. None: the default of the settings, or unlimited."""

    name: str
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    predictions_per_minute: int | None = None
    priority: Priority = Priority.NORMAL
    cache_seconds: int | None = None
    """Maximum age of a cached response in seconds; None: the cache is not used."""

    @property
    def is_metered(self) -> bool:
        """True if predictions count against a quota, which may be 0."""
        return self.requests_per_day is not None or self.requests_per_month is not None

    @property
    def quotas(self) -> dict[str, int]:
        """Limited number of predictions by period, ``day`` or ``month``."""
        limits = {"day": self.requests_per_day, "month": self.requests_per_month}
        return {period: limit for period, limit in limits.items() if limit is not None}
