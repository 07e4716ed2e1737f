"""The origin of an external model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """The origin of an external model, as its provenance records it."""

    file: str
    sha256: str
    by: str
    at: str
    """ISO 8601, UTC."""
    url: str | None
    dataset: str | None
    licence: str | None
    source: str | None
