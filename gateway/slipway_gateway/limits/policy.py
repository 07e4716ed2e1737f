"""What a grant gives of a model: how much, how fast, and who goes first."""

from dataclasses import dataclass
from enum import StrEnum


class Priority(StrEnum):
    """Who goes first where there is a queue."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a model its grantees may have. None: as much as the gateway's settings say, or
    without end.
    """

    name: str
    requests_per_day: int | None = None
    requests_per_month: int | None = None
    predictions_per_minute: int | None = None
    priority: Priority = Priority.NORMAL
    cache_seconds: int | None = None
    """None: each answer is computed."""

    @property
    def is_metered(self) -> bool:
        """Whether predictions count against a quota. A quota of 0 is one too."""
        return self.requests_per_day is not None or self.requests_per_month is not None

    @property
    def quotas(self) -> dict[str, int]:
        """Predictions by period, ``day`` and ``month``, for those that the policy limits."""
        limits = {"day": self.requests_per_day, "month": self.requests_per_month}
        return {period: limit for period, limit in limits.items() if limit is not None}
