"""Time in the formats of Kubernetes."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the current time, in UTC."""


def utc_now() -> datetime:
    """Return the system's time in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """Return RFC 3339 in whole seconds, as in ``creationTimestamp``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise_stamp(moment: datetime) -> str:
    """Return RFC 3339 in microseconds (MicroTime), for times from which back-offs count."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment_of(text: str) -> datetime:
    """Parse either format."""
    return datetime.fromisoformat(text)
